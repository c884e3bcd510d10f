//! Functions on numbers.

use num_bigint::{BigInt, Sign};

use super::doubles::{log, pow};
use super::{Add, Function, FunctionError, FunctionResult, Param, element_type, text, types, whole};
use crate::value::{Number, Type, Value, convert};

pub(super) fn add(add: Add<'_>) {
    let number = || Param::number("num");
    let one = |body: fn(&Number) -> Number| {
        Function::new([number()], Type::Number, move |args, _| Ok(Value::number(body(&get(args, 0)))))
    };
    add("abs", one(Number::abs));
    add("ceil", one(Number::ceil));
    add("floor", one(Number::floor));
    add("max", extreme(|candidate, best| candidate > best));
    add("min", extreme(|candidate, best| candidate < best));
    add("log", doubles(["num", "base"], log));
    add("pow", doubles(["num", "power"], pow));
    add(
        "signum",
        Function::new([number()], Type::Number, |args, _| Ok(Value::from(whole(args, 0)?.signum()))),
    );
    add(
        "parseint",
        Function::new([Param::any("number"), Param::number("base")], Type::Number, parse_int)
            .typed_by(types::parse_int),
    );
    add("sum", Function::new([Param::any("list")], Type::Number, |args, _| sum(&args[0])));
}

fn get(args: &[Value], index: usize) -> Number {
    // Conversion has made every argument a number.
    args[index].as_number().cloned().unwrap_or_else(|| 0.into())
}

fn extreme(better: fn(&Number, &Number) -> bool) -> Function {
    Function::new([], Type::Number, move |args, _| {
        let mut numbers = (0..args.len()).map(|i| get(args, i));
        let first = numbers.next().ok_or("must pass at least one number")?;
        Ok(Value::number(numbers.fold(first, |best, n| if better(&n, &best) { n } else { best })))
    })
    .variadic(Param::number("numbers"))
}

/// A function that is computed in doubles, as its results show in the last digits.
fn doubles(names: [&'static str; 2], body: fn(f64, f64) -> f64) -> Function {
    Function::new(names.map(Param::number), Type::Number, move |args, _| {
        let double = |index| {
            let number = get(args, index);
            let double = number.to_f64();
            if double.is_infinite() && !number.is_infinite() {
                let message = format!("value must be between {:e} and {:e} inclusive", f64::MIN, f64::MAX);
                return Err(FunctionError::argument(index, message));
            }
            Ok(double)
        };
        let result = body(double(0)?, double(1)?);
        Ok(Value::number(Number::from_f64(result).ok_or("the result is not a number")?))
    })
}

/// The most digits that `parseint` reads; numbers beyond are infinite anyhow.
const MOST_DIGITS: usize = 1 << 18;

fn parse_int(args: &[Value], _: &super::Capabilities) -> FunctionResult {
    types::parse_int(args)?;
    let base = whole(args, 1)?;
    if !(2..=62).contains(&base) {
        return Err(FunctionError::argument(1, "base must be a whole number between 2 and 62 inclusive"));
    }
    let digits = text(&args[0]);
    let wrong = || FunctionError::argument(0, format!("cannot parse \"{digits}\" as a base {base} integer"));
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    if digits.is_empty() {
        return Err(wrong());
    }
    let digit = |c: char| {
        let value = match c {
            '0'..='9' => c as u32 - '0' as u32,
            'a'..='z' => c as u32 - 'a' as u32 + 10,
            // Up to base 36 the case of a letter does not matter.
            'A'..='Z' if base <= 36 => c as u32 - 'A' as u32 + 10,
            'A'..='Z' => c as u32 - 'A' as u32 + 36,
            _ => return None,
        };
        u8::try_from(value).ok().filter(|v| i64::from(*v) < base)
    };
    let values: Option<Vec<u8>> = digits.chars().map(digit).collect();
    let values = values.ok_or_else(wrong)?;
    let significant = values.iter().position(|v| *v != 0).map_or(&[][..], |first| &values[first..]);
    if significant.len() > MOST_DIGITS {
        return Err(FunctionError::argument(0, "the number has too many digits"));
    }
    let sign = if negative { Sign::Minus } else { Sign::Plus };
    let number = BigInt::from_radix_be(sign, significant, base as u32).unwrap_or_default();
    Ok(Value::number(Number::from_bigint(&number)))
}

fn sum(list: &Value) -> FunctionResult {
    let wrong = |message: &str| Err(FunctionError::argument(0, message));
    if matches!(list.ty(), Type::Map(_) | Type::Object(_)) || list.as_slice().is_none() {
        return wrong("argument must be list, set, or tuple. Received something else");
    }
    let values = list.as_slice().unwrap_or_default();
    if values.is_empty() {
        return wrong("cannot sum an empty list");
    }
    if element_type(values).is_none() {
        return wrong("argument must be list, set, or tuple of number values");
    }
    let mut total = Number::from(0);
    for value in values {
        let number = convert(value, &Type::Number).map_err(|_| {
            FunctionError::argument(0, "argument must be list, set, or tuple of number values")
        })?;
        let Some(number) = number.as_number() else {
            return wrong("argument must be list, set, or tuple of number values");
        };
        total = total.add(number).map_err(|e| FunctionError::argument(0, e.to_string()))?;
    }
    Ok(Value::number(total))
}
