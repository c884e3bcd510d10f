//! What functions may reach is the host's to say: files, time, variables, services; and the host has functions of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use packer_core::language::functions::{
    Capabilities, Function, Functions, NoFiles, NoServices, Param, RegisterError, Services,
};
use packer_core::template::{Console, Inputs, Template};
use packer_core::value::{Type, Value};
use packer_core::{Clock, Diagnostics, Host, Registry};

fn console_of(text: &str, inputs: Inputs) -> Console {
    let template = Template::from_texts([("t.pkr.hcl", text)]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(template.console(&Registry::new(), inputs)).unwrap()
}

fn console(inputs: Inputs) -> Console {
    console_of("", inputs)
}

fn error(result: Result<String, Diagnostics>) -> String {
    result.expect_err("it is refused").to_string()
}

/// Answers for services: what was asked.
#[derive(Debug)]
struct Known;

impl Services for Known {
    fn vault(&self, _: &Capabilities, path: &str, key: &str) -> Result<String, String> {
        Ok(format!("vault of {path} {key}"))
    }

    fn consul_key(&self, cx: &Capabilities, key: &str) -> Result<String, String> {
        Ok(match key {
            "empty" => String::new(),
            key => format!("{key} for {}", cx.env["WHO"]),
        })
    }

    fn aws_secret(&self, _: &Capabilities, name: &str) -> Result<String, String> {
        Ok(format!(r#"{{"user": "admin of {name}", "port": 5432, "x": "no"}}"#))
    }
}

#[test]
fn a_host_can_refuse_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "x").unwrap();
    let inputs = Inputs::new().working_dir(folder.path());
    let (open, closed) = (console(inputs.clone()), console(inputs.files(NoFiles)));
    for expression in [
        "file(\"a\")",
        "filebase64(\"a\")",
        "fileexists(\"a\")",
        "fileset(\".\", \"*\")",
        "templatefile(\"a\", {})",
    ] {
        assert!(open.answer(expression).is_ok(), "{expression}");
        let said = error(closed.answer(expression));
        assert!(said.contains("no access to files"), "{expression}: {said}");
    }
}

#[test]
fn a_clock_can_stand_still() {
    let at = "2001-02-03T04:05:06Z".parse().unwrap();
    let console = console(Inputs::new().clock(Clock::fixed(at)));
    for (expression, expected) in [
        ("timestamp()", "2001-02-03T04:05:06Z"),
        ("legacy_isotime(\"2006-01-02\")", "2001-02-03"),
        ("legacy_isotime()", "2001-02-03T04:05:06Z"),
        ("legacy_strftime(\"%Y/%m/%d %H\")", "2001/02/03 04"),
    ] {
        assert_eq!(console.answer(expression).unwrap(), expected, "{expression}");
    }
}

#[test]
fn variables_are_those_that_the_host_lends() {
    let text = "variable \"home\" { default = env(\"HOME\") }";
    assert_eq!(console_of(text, Inputs::new()).answer("var.home").unwrap(), "");
    assert!(
        error(console(Inputs::new()).answer("pathexpand(\"~/x\")")).contains("home directory is not known")
    );
    let mut host = Host::new();
    host.env.insert("HOME".into(), "/lent".into());
    let lent = console_of(text, Inputs::new().host(host));
    assert_eq!(lent.answer("[var.home, pathexpand(\"~/x\")]").unwrap(), "[\n  \"/lent\",\n  \"/lent/x\",\n]");
}

#[test]
fn a_host_can_refuse_services() {
    let calls = [
        ("vault(\"secret/data/x\", \"k\")", "Vault"),
        ("consul_key(\"k\")", "Consul"),
        ("aws_secretsmanager(\"n\", null)", "AWS Secrets Manager"),
        ("aws_secretsmanager_raw(\"n\")", "AWS Secrets Manager"),
    ];
    let closed = console(Inputs::new().services(NoServices));
    for (call, service) in calls {
        let said = error(closed.answer(call));
        assert!(said.contains(&format!("no access to {service}")), "{said}");
        assert_eq!(closed.answer(&format!("try({call}, \"other\")")).unwrap(), "other");
        let name = call.split_once('(').unwrap().0;
        let without = console(Inputs::new().functions(Functions::standard().without(name)));
        assert!(error(without.answer(call)).contains(&format!("no function named \"{name}\"")));
    }
}

/// What this crate is built without.
#[test]
#[cfg(not(any(feature = "functions-aws", feature = "functions-consul", feature = "functions-vault")))]
fn without_its_feature_a_service_says_so() {
    let console = console(Inputs::new());
    for (call, feature) in [
        ("vault(\"secret/data/x\", \"k\")", "functions-vault"),
        ("consul_key(\"k\")", "functions-consul"),
        ("aws_secretsmanager(\"n\", null)", "functions-aws"),
        ("aws_secretsmanager_raw(\"n\")", "functions-aws"),
    ] {
        let said = error(console.answer(call));
        assert!(said.contains(&format!("built without the feature `{feature}`")), "{said}");
    }
}

#[test]
fn a_host_can_answer_for_services() {
    let mut host = Host::new();
    host.env.insert("WHO".into(), "me".into());
    let text = "locals {\n  secret = vault(\"a\", \"b\")\n  later = \"<${vault(\"a\", \"b\")}>\"\n}";
    let console = console_of(text, Inputs::new().host(host).services(Known));
    let evaluate = |expression: &str| console.evaluate(expression).unwrap();
    assert_eq!(evaluate("consul_key(\"k\")"), Value::from("k for me"));
    assert_eq!(evaluate("local.secret"), Value::from("vault of a b").sensitive());
    assert_eq!(evaluate("aws_secretsmanager(\"db\", \"user\")"), Value::from("admin of db").sensitive());
    assert_eq!(evaluate("aws_secretsmanager(\"db\", \"port\")"), Value::from("5432").sensitive());
    // Secrets are known as such from then on.
    assert_eq!(console.answer("local.later").unwrap(), "<<sensitive>>");
    assert_eq!(console.answer("aws_secretsmanager_raw(\"db\")").unwrap(), "<sensitive>");
    // Too short to be one: every "no" of the output would go.
    assert_eq!(evaluate("aws_secretsmanager(\"db\", \"x\")"), Value::from("no").sensitive());
    assert_eq!(console.answer("\"no\"").unwrap(), "no");
    for (call, expected) in [
        ("consul_key(\"empty\")", "is empty"),
        ("aws_secretsmanager(\"n\", null)", "has 3 entries"),
        ("aws_secretsmanager(\"n\", \"zzz\")", "no entry"),
        ("aws_secretsmanager(\"n\")", "takes 2 arguments"),
        ("vault(\"a\")", "takes 2 arguments"),
        ("vault(null, \"a\")", "must not be null"),
    ] {
        let said = error(console.answer(call));
        assert!(said.contains(expected), "{call}: {said}");
    }
}

#[test]
fn functions_of_the_hosts_own() {
    let double = || {
        Function::new([Param::number("n")], Type::Number, |args, _| {
            Ok(Value::from(args[0].as_i64().unwrap_or_default() * 2))
        })
    };
    let functions = Functions::standard().register("double", double()).unwrap();
    let text = "variable \"hidden\" {\n  default   = 4\n  sensitive = true\n}\n";
    let console = console_of(text, Inputs::new().functions(functions.clone()));
    assert_eq!(console.evaluate("double(\"21\")").unwrap(), Value::from(42));
    assert_eq!(console.evaluate("double(var.hidden)").unwrap(), Value::from(8).sensitive());
    assert_eq!(console.complete("doub", 4).candidates, ["double("]);
    assert!(error(console.answer("double(\"x\")")).contains("a number is required"));
    assert!(error(console.answer("doubel(1)")).contains("did you mean \"double\"?"));
    for taken in ["upper", "vault", "templatefile", "try", "can", "convert", "env", "double"] {
        let refused = functions.clone().register(taken, double()).unwrap_err();
        assert_eq!(refused, RegisterError::Taken(taken.to_owned()));
    }
    // Also where the host has taken the language's away: one name, one meaning.
    assert!(Functions::none().register("upper", double()).is_err());
    for name in ["", "a b", "1a", "ns::f"] {
        assert!(
            matches!(functions.clone().register(name, double()), Err(RegisterError::NoName(_))),
            "{name}"
        );
    }
}
