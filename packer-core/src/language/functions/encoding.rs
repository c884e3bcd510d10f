//! Functions that write and read text in other forms: Base64, URLs, JSON, YAML, CSV.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;

use super::charset::Charset;
use super::{Add, Function, FunctionError, FunctionResult, Param, csv, gzip, text, yaml_decode, yaml_encode};
use crate::value::{Type, Value, from_json_str};

/// Reads what Go's decoder reads: the bits that a last, partial group leaves over may be set.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

pub(super) fn add(add: Add<'_>) {
    let of_text = |name: &'static str, returns: Type, body: fn(&str) -> FunctionResult| {
        Function::new([Param::string(name)], returns, move |a, _| body(text(&a[0])))
    };
    add("base64decode", of_text("str", Type::String, decode_text));
    add("base64encode", of_text("str", Type::String, |s| Ok(Value::from(BASE64_STANDARD.encode(s)))));
    add(
        "base64gzip",
        of_text("str", Type::String, |s| {
            Ok(Value::from(BASE64_STANDARD.encode(gzip::compress(s.as_bytes()))))
        }),
    );
    add("csvdecode", of_text("str", Type::Dynamic, csv::decode));
    add("jsondecode", of_text("str", Type::Dynamic, |s| from_json_str(s).map_err(|e| e.to_string().into())));
    add(
        "jsonencode",
        Function::new([Param::any("val").nullable().dynamic()], Type::String, |a, _| {
            a[0].to_json_string().map(Value::from).map_err(|e| e.to_string().into())
        }),
    );
    add(
        "textdecodebase64",
        Function::new(["source", "encoding"].map(Param::string), Type::String, |a, _| text_decode(a)),
    );
    add(
        "textencodebase64",
        Function::new(["string", "encoding"].map(Param::string), Type::String, |a, _| text_encode(a)),
    );
    add("urlencode", of_text("str", Type::String, |s| Ok(Value::from(url_encode(s)))));
    add("yamldecode", of_text("src", Type::Dynamic, |s| yaml_decode::decode(s).map_err(Into::into)));
    add(
        "yamlencode",
        Function::new([Param::any("value").nullable().dynamic()], Type::String, |a, _| {
            yaml_encode::encode(&a[0]).map(Value::from).map_err(Into::into)
        }),
    );
}

/// Decodes Base64 that may be broken into lines.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    LENIENT.decode(text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect::<Vec<u8>>())
}

fn decode_text(text: &str) -> FunctionResult {
    let bytes = decode(text).map_err(|_| format!("failed to decode base64 data '{text}'"))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Value::text(&text)),
        Err(_) => Err("the result of decoding the provided string is not valid UTF-8".into()),
    }
}

fn charset(args: &[Value]) -> Result<Charset, FunctionError> {
    let name = text(&args[1]);
    Charset::find(name).ok_or_else(|| {
        FunctionError::argument(1, format!("{name:?} is not a supported IANA encoding name or alias"))
    })
}

fn text_encode(args: &[Value]) -> FunctionResult {
    let charset = charset(args)?;
    let bytes = charset.encode(text(&args[0])).ok_or_else(|| {
        let message =
            format!("the given string contains characters that cannot be represented in {}", charset.name());
        FunctionError::argument(0, message)
    })?;
    Ok(Value::from(BASE64_STANDARD.encode(bytes)))
}

fn text_decode(args: &[Value]) -> FunctionResult {
    let charset = charset(args)?;
    let bytes = decode(text(&args[0])).map_err(|e| {
        let message = match e {
            base64::DecodeError::InvalidByte(offset, _) => {
                format!("the given value has an invalid base64 symbol at offset {offset}")
            }
            other => format!("invalid base64 data: {other}"),
        };
        FunctionError::argument(0, message)
    })?;
    let text = charset.decode(&bytes).ok_or_else(|| {
        let message =
            format!("the given string contains symbols that are not defined for {}", charset.name());
        FunctionError::argument(0, message)
    })?;
    Ok(Value::text(&text))
}

fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(b.into()),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
