//! The `hcldec` example, on specifications of our own; `.ci/specsuite` runs HCL's suite on it.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

const SPEC: &str = r#"
variables {
  who = "world"
}
object {
  attr "name" {
    type     = string
    required = true
  }
  default "size" {
    attr {
      name = "size"
      type = number
    }
    literal {
      value = 3.14159265358979323846264338327950288
    }
  }
  block_list "rule" {
    min_items = 1
    array {
      attr {
        name = "port"
        type = number
      }
      attr {
        name = "note"
        type = string
      }
    }
  }
  block_map "user" {
    labels = ["group", "name"]
    object {
      attr "admin" {
        type = bool
      }
    }
  }
  block "only" {
    object {}
  }
}
"#;

/// Cargo builds the examples beside the tests.
fn hcldec() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap().join("examples");
    folder.join(format!("hcldec{}", std::env::consts::EXE_SUFFIX))
}

/// Exit code and output of decoding a text.
fn decode(text: &str, options: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.hcldec"), SPEC).unwrap();
    fs::write(folder.path().join("t.hcl"), text).unwrap();
    let output = Command::new(hcldec())
        .args(["--spec=s.hcldec", "--diags=json"])
        .args(options)
        .arg("t.hcl")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(text).unwrap().trim_end().to_owned())
}

const TEXT: &str = "name = \"hello ${who}\"\nrule {\n  port = \"80\"\n}\nrule {\n  note = 1\n}\nuser \"a\" \"b\" {\n  admin = \"true\"\n}\nuser \"a\" \"c\" {}\n";

#[test]
fn values_with_and_without_types_and_nulls() {
    let (code, text) = decode(TEXT, &[]);
    let expected = r#"{"name":"hello world","rule":[[80,null],[null,"1"]],"size":3.14159265358979323846264338327950288,"user":{"a":{"b":{"admin":true},"c":{}}}}"#;
    assert_eq!((code, text.as_str()), (Some(0), expected));
    let (code, text) = decode(TEXT, &["--with-type", "--keep-nulls"]);
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["type"][1]["user"], serde_json::json!(["map", ["map", ["object", {"admin": "bool"}]]]));
    assert_eq!(json["value"]["only"], serde_json::Value::Null);
    assert_eq!(json["value"]["user"]["a"]["c"]["admin"], serde_json::Value::Null);
}

#[test]
fn references_with_the_place_of_each_step() {
    let (code, text) = decode("name = a.b[\"c\"]\nrule {\n  port = d\n}\n", &["--var-refs"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, json.as_array().unwrap().len()), (Some(0), 2));
    let steps = json[0]["steps"].as_array().unwrap();
    let seen: Vec<(&str, u64)> = steps
        .iter()
        .map(|s| (s["kind"].as_str().unwrap(), s["range"]["start"]["column"].as_u64().unwrap()))
        .collect();
    assert_eq!(seen, [("root", 8), ("attr", 9), ("index", 11)]);
    assert_eq!(json[1]["root_name"], "d");
}

#[test]
fn what_is_wrong_has_a_place() {
    for (text, summary, line, column) in [
        ("name = 1\n", "Insufficient rule blocks", 1, 1),
        ("rule {}\n", "Missing required argument", 1, 1),
        ("name = 1\nrule {\n  port = \"x\"\n}\n", "Incorrect attribute value type", 3, 10),
        ("name = 1\nrule {}\nonly {}\nonly {}\n", "Duplicate only block", 4, 1),
        ("name = 1\nrule {}\nuser \"a\" {}\n", "Missing label for user", 3, 6),
        ("name = 1, b = 2\n", "Unexpected comma after argument", 1, 9),
    ] {
        let (code, told) = decode(text, &[]);
        let json: serde_json::Value = serde_json::from_str(&told).unwrap();
        let first = &json["diagnostics"][0];
        assert_eq!((code, first["summary"].as_str()), (Some(2), Some(summary)), "{told}");
        let start = &first["subject"]["start"];
        assert_eq!((start["line"].as_u64(), start["column"].as_u64()), (Some(line), Some(column)), "{told}");
    }
}
