//! Values as `packer console` and `packer inspect` show them.

use super::number::format_double;
use super::{Data, Number, Value, quote};

/// The value for people: a string as it is, numbers like `%g` of C unless they are whole and fit 64 bits,
/// collections over several lines, attributes that are null left out. A value that is not wholly known is
/// `<unknown>`. Sensitive text is shown; the host replaces it where it shows output.
pub fn print(value: &Value) -> String {
    if !value.is_wholly_known() {
        return "<unknown>".to_owned();
    }
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

/// A number as the console shows it: `5`, `2.5`, `1e+20`, `+Inf`.
pub fn print_number(number: &Number) -> String {
    match number.to_i64() {
        Some(i) => i.to_string(),
        None => format_double(number.to_f64()),
    }
}

fn write(value: &Value, indent: usize, out: &mut String) {
    if value.is_too_deep() {
        return out.push_str("<nested too deeply>");
    }
    let line = |out: &mut String, indent: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", indent));
    };
    match value.data() {
        Data::Unknown(_) => out.push_str("<unknown>"),
        Data::Null(_) => out.push_str("null"),
        Data::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Data::Number(n) => out.push_str(&print_number(n)),
        Data::String(s) => out.push_str(&quote::quote(s)),
        Data::List(_, v) | Data::Set(_, v) | Data::Tuple(v) => {
            if v.is_empty() {
                return out.push_str("[]");
            }
            out.push('[');
            for v in v.iter() {
                line(out, indent + 1);
                write(v, indent + 1, out);
                out.push(',');
            }
            line(out, indent);
            out.push(']');
        }
        Data::Map(_, m) | Data::Object(m) => {
            if m.values().all(Value::is_null) {
                return out.push_str("{}");
            }
            out.push('{');
            for (k, v) in m.iter().filter(|(_, v)| !v.is_null()) {
                line(out, indent + 1);
                out.push_str(&quote::quote(k));
                out.push_str(" = ");
                write(v, indent + 1, out);
            }
            line(out, indent);
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Type;

    #[test]
    fn prints_like_the_console() {
        let v = Value::object([
            ("b", Value::tuple([Value::from(1), Value::null(Type::Dynamic), Value::from("a\tb")])),
            ("a", Value::null(Type::String)),
            ("c", Value::tuple([])),
        ]);
        assert_eq!(print(&v), "{\n  \"b\" = [\n    1,\n    null,\n    \"a\\tb\",\n  ]\n  \"c\" = []\n}");
        for (text, want) in [
            ("1000000", "1000000"),
            ("1e20", "1e+20"),
            ("9223372036854775808", "9.223372036854776e+18"),
            ("18446744073709551616", "1.8446744073709552e+19"),
            ("-0.5", "-0.5"),
            ("0.00001", "1e-05"),
            ("-0", "0"),
            ("Inf", "+Inf"),
        ] {
            assert_eq!(print_number(&text.parse().unwrap()), want);
        }
        assert_eq!(print(&Value::tuple([Value::unknown(Type::String)])), "<unknown>");
        assert_eq!(print(&Value::from("a\nb")), "a\nb");
        assert_eq!(print(&Value::object([("a", Value::null(Type::Dynamic))])), "{}");
    }
}
