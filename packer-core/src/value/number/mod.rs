//! Numbers of the template language: binary floats of up to 512 bits, each with its own precision.
//!
//! The language has one number type. A literal or a numeric string is read at 512 bits, a count (`length`,
//! an index) has 64 and a result that was computed in doubles has 53. Sums, differences and quotients take the
//! larger precision of their operands and round half to even; products widen until they are exact, up to 512.
//! That is what makes `0.1 + 0.2` print `0.3` and `1 / 3` print 154 digits.

mod text;

pub(super) use text::format_double;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use num_bigint::{BigInt, BigUint, Sign};

/// Mantissa bits of numbers that come from text.
const FULL: u32 = 512;
/// Mantissa bits of numbers that come from machine integers.
const WORD: u32 = 64;
/// Mantissa bits of numbers that come from doubles.
const DOUBLE: u32 = 53;
/// Bounds the exponent (in bits) so that no text form is longer than about 80,000 digits. What is larger
/// becomes infinite, what is smaller zero.
const MAX_EXPONENT: i64 = 1 << 18;

/// A number of the template language; cheap to clone.
///
/// Comparison and equality are exact and ignore the precision; `-0` equals `0`.
///
/// ```
/// use packer_core::value::Number;
/// let a: Number = "0.1".parse().unwrap();
/// let b: Number = "0.2".parse().unwrap();
/// assert_eq!(a.add(&b).unwrap().to_string(), "0.3");
/// ```
#[derive(Clone)]
pub struct Number(Repr);

#[derive(Clone)]
enum Repr {
    /// Whole, fits, and the precision is at least 64 bits, so never rounded. `-0` is not among these.
    Int(i64, u32),
    Float(Arc<Float>),
    Infinite(Sign),
}

/// `±mantissa × 2^exponent`; the mantissa is zero or odd, and no longer than the precision.
#[derive(Clone, Debug)]
pub(super) struct Float {
    pub(super) negative: bool,
    pub(super) mantissa: BigUint,
    pub(super) exponent: i64,
    pub(super) precision: u32,
}

/// What arithmetic cannot give a result for; the texts are cty's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArithmeticError {
    /// `∞ + -∞`.
    #[error("can't compute sum of opposing infinities")]
    Sum,
    /// `∞ - ∞`.
    #[error("can't subtract infinity from itself")]
    Difference,
    /// `0 * ∞`.
    #[error("can't multiply zero by infinity")]
    Product,
    /// `0 / 0` or `∞ / ∞`.
    #[error("can't divide zero by zero or infinity by infinity")]
    Quotient,
    /// `x % ∞`.
    #[error("can't use modulo with zero and infinity")]
    Remainder,
}

/// The text is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a number is required")]
pub struct ParseNumberError;

impl Number {
    /// How many characters its text has, about and at most.
    pub(super) fn text_size(&self) -> u32 {
        match &self.0 {
            Repr::Int(..) | Repr::Infinite(_) => 0,
            // A decimal digit is worth three bits and more: so many that count, and zeros before or behind them.
            Repr::Float(f) => {
                let bits = f.mantissa.bits();
                let magnitude = f.exponent.saturating_add_unsigned(bits).unsigned_abs();
                u32::try_from(bits / 3 + magnitude / 3).unwrap_or(u32::MAX)
            }
        }
    }

    /// Positive infinity, which `1 / 0` gives.
    pub const INFINITY: Self = Self(Repr::Infinite(Sign::Plus));
    /// Negative infinity.
    pub const NEGATIVE_INFINITY: Self = Self(Repr::Infinite(Sign::Minus));
    /// Zero.
    pub const ZERO: Self = Self(Repr::Int(0, WORD));

    /// The number a double stands for, at 53 bits; `None` for NaN, which the language does not have.
    pub fn from_f64(value: f64) -> Option<Self> {
        if value.is_nan() {
            return None;
        }
        if value.is_infinite() {
            return Some(if value > 0.0 { Self::INFINITY } else { Self::NEGATIVE_INFINITY });
        }
        let bits = value.to_bits();
        let (fraction, biased) = (bits & ((1 << 52) - 1), (bits >> 52) & 0x7ff);
        let (mantissa, exponent) =
            if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased as i64 - 1075) };
        Some(Self::rounded(value.is_sign_negative(), mantissa.into(), exponent, DOUBLE))
    }

    /// A whole number of any size, at as many bits as it needs (at least 64).
    pub fn from_bigint(value: &BigInt) -> Self {
        let precision = u32::try_from(value.bits()).unwrap_or(u32::MAX).max(WORD);
        Self::rounded(value.sign() == Sign::Minus, value.magnitude().clone(), 0, precision)
    }

    /// The sum.
    pub fn add(&self, other: &Self) -> Result<Self, ArithmeticError> {
        self.sum(other, false).ok_or(ArithmeticError::Sum)
    }

    /// The difference.
    pub fn sub(&self, other: &Self) -> Result<Self, ArithmeticError> {
        self.sum(other, true).ok_or(ArithmeticError::Difference)
    }

    fn sum(&self, other: &Self, subtract: bool) -> Option<Self> {
        if let (Repr::Int(a, p), Repr::Int(b, q)) = (&self.0, &other.0) {
            let sum = if subtract { a.checked_sub(*b) } else { a.checked_add(*b) };
            if let Some(sum) = sum {
                return Some(Self(Repr::Int(sum, *p.max(q))));
            }
        }
        let other = if subtract { other.neg() } else { other.clone() };
        match (&self.0, &other.0) {
            (Repr::Infinite(a), Repr::Infinite(b)) => (a == b).then(|| self.clone()),
            (Repr::Infinite(_), _) => Some(self.clone()),
            (_, Repr::Infinite(_)) => Some(other),
            _ => {
                let (a, b) = (self.float()?, other.float()?);
                Some(add_floats(&a, &b, a.precision.max(b.precision)))
            }
        }
    }

    /// The product.
    pub fn mul(&self, other: &Self) -> Result<Self, ArithmeticError> {
        if let (Repr::Int(a, p), Repr::Int(b, q)) = (&self.0, &other.0)
            && let Some(product) = a.checked_mul(*b)
            // Zero takes the sign of its operands, which a machine integer cannot hold.
            && product != 0
        {
            return Ok(Self(Repr::Int(product, *p.max(q))));
        }
        let (Some(a), Some(b)) = (self.float(), other.float()) else {
            if self.is_zero() || other.is_zero() {
                return Err(ArithmeticError::Product);
            }
            return Ok(Self(Repr::Infinite(self.sign() * other.sign())));
        };
        let product = &a.mantissa * &b.mantissa;
        let needed = u32::try_from(product.bits()).unwrap_or(FULL).min(FULL);
        let precision = a.precision.max(b.precision).max(needed);
        // At least 512 bits are kept while multiplying; what does not fit is rounded once.
        Ok(Self::rounded(a.negative != b.negative, product, a.exponent + b.exponent, precision))
    }

    /// The quotient; `x / 0` is an infinity of the sign of `x`.
    pub fn div(&self, other: &Self) -> Result<Self, ArithmeticError> {
        if let (Repr::Int(a, p), Repr::Int(b, q)) = (&self.0, &other.0)
            && *a != 0
            && let Some(0) = a.checked_rem(*b)
            && let Some(quotient) = a.checked_div(*b)
        {
            return Ok(Self(Repr::Int(quotient, *p.max(q))));
        }
        let (a, b) = match (self.float(), other.float()) {
            (None, None) => return Err(ArithmeticError::Quotient),
            (None, Some(b)) => return Ok(Self(Repr::Infinite(self.sign() * sign_of(b.negative)))),
            (Some(a), None) => {
                let negative = a.negative != (other.sign() == Sign::Minus);
                return Ok(Self::rounded(negative, BigUint::ZERO, 0, a.precision));
            }
            (Some(a), Some(b)) => (a, b),
        };
        if other.is_zero() {
            if self.is_zero() {
                return Err(ArithmeticError::Quotient);
            }
            return Ok(Self(Repr::Infinite(self.sign() * sign_of(b.negative))));
        }
        Ok(div_floats(&a, &b, a.precision.max(b.precision)))
    }

    /// The remainder of the division that truncates towards zero; has the sign of `self`. `x % 0` is `x`.
    pub fn rem(&self, other: &Self) -> Result<Self, ArithmeticError> {
        if let (Repr::Int(a, p), Repr::Int(b, q)) = (&self.0, &other.0)
            && let Some(rest) = a.checked_rem(*b)
            && (rest != 0 || *a >= 0)
        {
            return Ok(Self(Repr::Int(rest, *p.max(q))));
        }
        let (Some(a), Some(b)) = (self.float(), other.float()) else {
            return Err(ArithmeticError::Remainder);
        };
        if other.is_zero() {
            return Ok(self.clone());
        }
        // Each step rounds to the precision of the dividend, as cty does: `0.3 % 0.1` is 0.
        let precision = a.precision;
        let quotient = div_floats(&a, &b, precision.max(b.precision));
        let Some(whole) = quotient.trunc().float() else { return Err(ArithmeticError::Remainder) };
        if whole.mantissa == BigUint::ZERO {
            // `-0 % 2` is -0; `-0 % -2`, which takes -0 away from it, is not.
            return Ok(if self.is_zero() && b.negative { Self::from(0) } else { self.clone() });
        }
        let product = Self::rounded(
            whole.negative != b.negative,
            &whole.mantissa * &b.mantissa,
            whole.exponent + b.exponent,
            precision,
        );
        let Some(product) = product.neg().float() else { return Err(ArithmeticError::Remainder) };
        Ok(add_floats(&a, &product, precision))
    }

    /// The number with the other sign; `-0` exists.
    #[must_use]
    pub fn neg(&self) -> Self {
        match &self.0 {
            Repr::Int(0, p) => Self(Repr::Float(Arc::new(Float {
                negative: true,
                mantissa: BigUint::ZERO,
                exponent: 0,
                precision: *p,
            }))),
            Repr::Int(i, p) => match i.checked_neg() {
                Some(i) => Self(Repr::Int(i, *p)),
                None => Self::rounded(false, BigUint::from(i.unsigned_abs()), 0, *p),
            },
            Repr::Float(f) => Self::rounded(!f.negative, f.mantissa.clone(), f.exponent, f.precision),
            Repr::Infinite(s) => Self(Repr::Infinite(-*s)),
        }
    }

    /// The number without its sign.
    #[must_use]
    pub fn abs(&self) -> Self {
        if self.sign() == Sign::Minus || self.is_negative_zero() { self.neg() } else { self.clone() }
    }

    /// The whole part.
    #[must_use]
    pub fn trunc(&self) -> Self {
        match &self.0 {
            Repr::Float(f) if f.exponent < 0 => {
                let whole = shift_right(&f.mantissa, f.exponent.unsigned_abs());
                Self::rounded(f.negative, whole, 0, f.precision.max(WORD))
            }
            _ => self.clone(),
        }
    }

    /// The largest whole number that is not larger.
    #[must_use]
    pub fn floor(&self) -> Self {
        let whole = self.trunc();
        self.whole(&whole, if self < &whole { -1 } else { 0 })
    }

    /// The smallest whole number that is not smaller.
    #[must_use]
    pub fn ceil(&self) -> Self {
        let whole = self.trunc();
        self.whole(&whole, i64::from(self > &whole))
    }

    /// A whole number plus `by`, at the precision of this one; infinity stays.
    fn whole(&self, whole: &Self, by: i64) -> Self {
        let (precision, Some(i)) = (self.precision(), whole.to_bigint()) else { return self.clone() };
        let i = i + by;
        Self::rounded(i.sign() == Sign::Minus, i.magnitude().clone(), 0, precision)
    }

    /// Mantissa bits that it may have.
    fn precision(&self) -> u32 {
        match &self.0 {
            Repr::Int(_, precision) => *precision,
            Repr::Float(f) => f.precision,
            Repr::Infinite(_) => DOUBLE,
        }
    }

    /// Whether it has no fraction; infinity is not whole.
    pub fn is_integer(&self) -> bool {
        match &self.0 {
            Repr::Int(..) => true,
            Repr::Float(f) => f.exponent >= 0,
            Repr::Infinite(_) => false,
        }
    }

    /// Whether it is one of the infinities.
    pub fn is_infinite(&self) -> bool {
        matches!(self.0, Repr::Infinite(_))
    }

    /// Whether it is `0` or `-0`.
    pub fn is_zero(&self) -> bool {
        self.sign() == Sign::NoSign
    }

    fn is_negative_zero(&self) -> bool {
        matches!(&self.0, Repr::Float(f) if f.negative && f.mantissa.bits() == 0)
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i32 {
        match self.sign() {
            Sign::Minus => -1,
            Sign::NoSign => 0,
            Sign::Plus => 1,
        }
    }

    fn sign(&self) -> Sign {
        match &self.0 {
            Repr::Int(i, _) => match i.cmp(&0) {
                Ordering::Less => Sign::Minus,
                Ordering::Equal => Sign::NoSign,
                Ordering::Greater => Sign::Plus,
            },
            Repr::Float(f) if f.mantissa.bits() == 0 => Sign::NoSign,
            Repr::Float(f) => sign_of(f.negative),
            Repr::Infinite(s) => *s,
        }
    }

    /// The number as `i64`; `None` where it has a fraction or does not fit.
    pub fn to_i64(&self) -> Option<i64> {
        match &self.0 {
            Repr::Int(i, _) => Some(*i),
            _ => i64::try_from(self.to_bigint_within(64)?).ok(),
        }
    }

    /// The number as `u64`; `None` where it is negative, has a fraction or does not fit.
    pub fn to_u64(&self) -> Option<u64> {
        match &self.0 {
            Repr::Int(i, _) => u64::try_from(*i).ok(),
            _ => u64::try_from(self.to_bigint_within(64)?).ok(),
        }
    }

    /// The number as `usize`; `None` where it is negative, has a fraction or does not fit.
    pub fn to_usize(&self) -> Option<usize> {
        usize::try_from(self.to_u64()?).ok()
    }

    /// The nearest double; an infinity where it is too large.
    pub fn to_f64(&self) -> f64 {
        let f = match &self.0 {
            // Conversion of an integer rounds to nearest even, as wanted.
            Repr::Int(i, _) => return *i as f64,
            Repr::Infinite(s) => return if *s == Sign::Minus { f64::NEG_INFINITY } else { f64::INFINITY },
            Repr::Float(f) => f,
        };
        let sign = if f.negative { -1.0 } else { 1.0 };
        if f.mantissa.bits() == 0 {
            return sign * 0.0;
        }
        // The exponent of the leading bit decides how many bits a double has left (fewer when subnormal).
        let top = f.exponent + f.mantissa.bits() as i64;
        if top > 1024 {
            return sign * f64::INFINITY;
        }
        let lowest = (top - i64::from(DOUBLE)).max(-1074);
        let scaled = round_at(&f.mantissa, lowest - f.exponent);
        let Ok(mantissa) = u64::try_from(scaled) else { return sign * f64::INFINITY };
        // Both factors are exact: the mantissa has at most 53 bits; two steps keep 2^-1074 representable.
        let half = lowest / 2;
        sign * mantissa as f64 * 2f64.powi(half as i32) * 2f64.powi((lowest - half) as i32)
    }

    /// The number as a big integer; `None` where it has a fraction or is infinite.
    pub fn to_bigint(&self) -> Option<BigInt> {
        self.to_bigint_within(u64::MAX)
    }

    fn to_bigint_within(&self, bits: u64) -> Option<BigInt> {
        match &self.0 {
            Repr::Int(i, _) => Some(BigInt::from(*i)),
            Repr::Float(f) => {
                let shift = u64::try_from(f.exponent).ok()?;
                if f.mantissa.bits() + shift > bits {
                    return None;
                }
                let magnitude = &f.mantissa << shift;
                let sign = if magnitude.bits() == 0 { Sign::NoSign } else { sign_of(f.negative) };
                Some(BigInt::from_biguint(sign, magnitude))
            }
            Repr::Infinite(_) => None,
        }
    }

    /// A text that is the same for equal numbers only, whatever their precision.
    pub(super) fn exact_text(&self) -> String {
        match self.float() {
            Some(f) if self.is_zero() || !f.negative => format!("{:x}p{}", f.mantissa, f.exponent),
            Some(f) => format!("-{:x}p{}", f.mantissa, f.exponent),
            None => self.to_string(),
        }
    }

    /// The parts of a finite number.
    pub(super) fn float(&self) -> Option<Arc<Float>> {
        match &self.0 {
            Repr::Int(i, p) => Some(Arc::new(normalized(*i < 0, BigUint::from(i.unsigned_abs()), 0, *p))),
            Repr::Float(f) => Some(f.clone()),
            Repr::Infinite(_) => None,
        }
    }

    /// `±mantissa × 2^exponent`, rounded half to even to `precision` bits.
    pub(super) fn rounded(negative: bool, mantissa: BigUint, exponent: i64, precision: u32) -> Self {
        let surplus = mantissa.bits() as i64 - i64::from(precision);
        let (mantissa, exponent) = if surplus > 0 {
            (round_at(&mantissa, surplus), exponent + surplus)
        } else {
            (mantissa, exponent)
        };
        let bits = mantissa.bits();
        if bits > 0 && exponent + bits as i64 > MAX_EXPONENT {
            return Self(Repr::Infinite(sign_of(negative)));
        }
        if bits > 0 && exponent + (bits as i64) < -MAX_EXPONENT {
            return Self::rounded(negative, BigUint::ZERO, 0, precision);
        }
        let float = normalized(negative, mantissa, exponent, precision);
        let small = precision >= WORD && float.exponent >= 0 && bits as i64 + exponent < 64;
        if small && !(float.negative && bits == 0) {
            let magnitude = i64::try_from(&float.mantissa << float.exponent.unsigned_abs());
            if let Ok(magnitude) = magnitude {
                return Self(Repr::Int(if negative { -magnitude } else { magnitude }, precision));
            }
        }
        Self(Repr::Float(Arc::new(float)))
    }
}

fn sign_of(negative: bool) -> Sign {
    if negative { Sign::Minus } else { Sign::Plus }
}

/// Moves the trailing zeros of the mantissa to the exponent.
fn normalized(negative: bool, mantissa: BigUint, exponent: i64, precision: u32) -> Float {
    match mantissa.trailing_zeros() {
        None => Float { negative, mantissa, exponent: 0, precision },
        Some(0) => Float { negative, mantissa, exponent, precision },
        Some(zeros) => {
            Float { negative, mantissa: mantissa >> zeros, exponent: exponent + zeros as i64, precision }
        }
    }
}

/// `mantissa / 2^bits`, rounded half to even; a negative `bits` multiplies.
pub(super) fn round_at(mantissa: &BigUint, bits: i64) -> BigUint {
    let Ok(shift) = u64::try_from(bits) else { return mantissa << bits.unsigned_abs() };
    if shift == 0 {
        return mantissa.clone();
    }
    let whole = shift_right(mantissa, shift);
    let half = mantissa.bit(shift - 1);
    let more = mantissa.trailing_zeros().is_some_and(|zeros| zeros < shift - 1);
    if half && (more || whole.bit(0)) { whole + 1u32 } else { whole }
}

fn shift_right(mantissa: &BigUint, bits: u64) -> BigUint {
    if bits >= mantissa.bits() { BigUint::ZERO } else { mantissa >> bits }
}

fn add_floats(a: &Float, b: &Float, precision: u32) -> Number {
    let (a, b) = if a.exponent >= b.exponent { (a, b) } else { (b, a) };
    if b.mantissa.bits() == 0 || a.mantissa.bits() == 0 {
        let other = if b.mantissa.bits() == 0 { a } else { b };
        let both_zero = a.mantissa.bits() == 0 && b.mantissa.bits() == 0;
        let negative = if both_zero { a.negative && b.negative } else { other.negative };
        return Number::rounded(negative, other.mantissa.clone(), other.exponent, precision);
    }
    // Far apart: the smaller one only decides which way to round, one bit below the last kept says as much.
    let gap = a.exponent - b.exponent;
    let wide = a.mantissa.bits() as i64 + gap;
    let (small, exponent) = if wide - b.mantissa.bits() as i64 > i64::from(precision) + 2 {
        let reach = i64::from(precision) + 2 - a.mantissa.bits() as i64;
        (BigUint::from(1u32), a.exponent - reach.max(1) - 1)
    } else {
        (b.mantissa.clone(), b.exponent)
    };
    let large = &a.mantissa << (a.exponent - exponent).unsigned_abs();
    let sum =
        BigInt::from_biguint(sign_of(a.negative), large) + BigInt::from_biguint(sign_of(b.negative), small);
    Number::rounded(sum.sign() == Sign::Minus, sum.magnitude().clone(), exponent, precision)
}

/// The divisor is not zero.
fn div_floats(a: &Float, b: &Float, precision: u32) -> Number {
    let negative = a.negative != b.negative;
    // Two bits more than asked and a last one that tells whether anything was cut off round as the exact quotient.
    let shift = i64::from(precision) + 2 + b.mantissa.bits() as i64 - a.mantissa.bits() as i64;
    let shift = shift.max(0);
    let dividend = &a.mantissa << shift.unsigned_abs();
    let quotient = &dividend / &b.mantissa;
    let exact = &quotient * &b.mantissa == dividend;
    let quotient = (quotient << 1u32) + u32::from(!exact);
    Number::rounded(negative, quotient, a.exponent - b.exponent - shift - 1, precision)
}

impl FromStr for Number {
    type Err = ParseNumberError;

    /// Reads a decimal number with optional sign, fraction and exponent, or `Inf`, at 512 bits.
    fn from_str(text: &str) -> Result<Self, ParseNumberError> {
        text::parse(text).ok_or(ParseNumberError)
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = match (&self.0, &other.0) {
            (Repr::Int(a, _), Repr::Int(b, _)) => return a.cmp(b),
            (Repr::Infinite(_), _) | (_, Repr::Infinite(_)) => {
                // An infinity lies beyond every finite number of its sign.
                let rank = |n: &Self| n.signum() * if n.is_infinite() { 2 } else { 1 };
                return rank(self).cmp(&rank(other));
            }
            _ => match (self.float(), other.float()) {
                (Some(a), Some(b)) => (a, b),
                // Both are finite here.
                _ => return Ordering::Equal,
            },
        };
        let signs = self.signum().cmp(&other.signum());
        if signs != Ordering::Equal || self.is_zero() {
            return signs;
        }
        let top = |f: &Float| f.exponent + f.mantissa.bits() as i64;
        let magnitudes = top(&a).cmp(&top(&b)).then_with(|| {
            // The leading bits coincide, so the shift is bounded by the precision of the longer one.
            let low = a.exponent.min(b.exponent);
            let scaled = |f: &Float| &f.mantissa << (f.exponent - low).unsigned_abs();
            scaled(&a).cmp(&scaled(&b))
        });
        if a.negative { magnitudes.reverse() } else { magnitudes }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sign().hash(state);
        // The normal form is unique, whatever the representation or the precision.
        if let Some(f) = self.float().filter(|_| !self.is_zero()) {
            (&f.mantissa, f.exponent).hash(state);
        }
    }
}

/// The shortest plain decimal (never with an exponent) that reads back as this number at its precision.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Int(i, _) => fmt::Display::fmt(i, f),
            _ => f.write_str(&self.format('f', None)),
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! from_integers {
    ($($t:ty)*) => {$(
        impl From<$t> for Number {
            fn from(value: $t) -> Self {
                match i64::try_from(value) {
                    Ok(i) => Self(Repr::Int(i, WORD)),
                    Err(_) => Self::from_bigint(&BigInt::from(value)),
                }
            }
        }
    )*};
}

from_integers!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize i128 u128);

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Number {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn arithmetic_rounds_like_cty() {
        let third = n("1").div(&n("3")).unwrap();
        let threes = format!("0.{}5", "3".repeat(154));
        assert_eq!(third.to_string(), threes);
        let short = Number::from(1).div(&Number::from(3)).unwrap();
        assert_eq!(short.to_string(), "0.33333333333333333334");
        for (a, op, b, want) in [
            ("0.1", '+', "0.2", "0.3"),
            ("0.5", '-', "0.25", "0.25"),
            ("0.3", '%', "0.1", "0"),
            ("-7", '%', "3", "-1"),
            ("7", '%', "-3", "1"),
            ("5.5", '%', "2", "1.5"),
            ("5", '%', "0", "5"),
            ("1e300", '*', "1e300", &format!("1{}", "0".repeat(600))),
            ("9223372036854775807", '+', "1", "9223372036854775808"),
            ("-9223372036854775808", '/', "-1", "9223372036854775808"),
            ("1", '/', "0", "+Inf"),
            ("-1", '/', "0", "-Inf"),
            ("1", '/', "Inf", "0"),
            ("1e200", '+', "1", &n("1e200").to_string()),
            ("-4", '%', "2", "0"),
        ] {
            let (x, y) = (n(a), n(b));
            let got = match op {
                '+' => x.add(&y),
                '-' => x.sub(&y),
                '*' => x.mul(&y),
                '/' => x.div(&y),
                _ => x.rem(&y),
            };
            assert_eq!(got.unwrap().to_string(), want, "{a} {op} {b}");
        }
        assert_eq!(Number::INFINITY.sub(&Number::INFINITY), Err(ArithmeticError::Difference));
        assert_eq!(n("5").rem(&Number::INFINITY), Err(ArithmeticError::Remainder));
        assert_eq!(n("0").mul(&Number::INFINITY), Err(ArithmeticError::Product));
        assert_eq!(n("0").div(&n("0")), Err(ArithmeticError::Quotient));
    }

    #[test]
    fn doubles_are_nearest() {
        for text in ["0.1", "1e308", "5e-324", "2.2250738585072011e-308", "123456789.125", "-0.5"] {
            assert_eq!(n(text).to_f64(), text.parse::<f64>().unwrap(), "{text}");
            let double = text.parse::<f64>().unwrap();
            assert_eq!(Number::from_f64(double).unwrap().to_f64(), double, "{text}");
        }
        assert_eq!(n("1e400").to_f64(), f64::INFINITY);
        assert_eq!(n("1e-400").to_f64(), 0.0);
        assert_eq!(n("9007199254740993").to_f64(), 9007199254740992.0);
        assert!(Number::from_f64(f64::NAN).is_none());
    }

    #[test]
    fn whole_numbers() {
        assert_eq!(n("1.8").floor().to_i64(), Some(1));
        assert_eq!(n("-1.2").floor().to_i64(), Some(-2));
        assert_eq!(n("-1.8").ceil().to_i64(), Some(-1));
        assert_eq!(n("12345678901234567890.5").ceil().to_string(), "12345678901234567891");
        assert_eq!(n("1.5").to_i64(), None);
        assert_eq!(n("9223372036854775808").to_i64(), None);
        assert_eq!(n("18446744073709551615").to_u64(), Some(u64::MAX));
        assert_eq!(n("-9223372036854775808").to_i64(), Some(i64::MIN));
        assert_eq!(n("1e100000").to_i64(), None);
    }

    #[test]
    fn order_is_exact_and_ignores_precision() {
        assert!(n("9007199254740992") < n("9007199254740993"));
        assert!(n("-2") < n("-1") && n("-1") < n("0") && n("-Inf") < n("-1e1000") && n("1e1000") < n("Inf"));
        assert_eq!(n("0").neg(), n("0"));
        assert_eq!(Number::from(3), n("3.0"));
        assert_ne!(Number::from_f64(0.1).unwrap(), n("0.1"));
        // Rounding keeps the precision, and with it the digits that are shown.
        let double = Number::from_f64(12_157_665_459_056_929_000.0).unwrap();
        assert_eq!(double.ceil().to_string(), double.to_string());
        assert_eq!(double.floor().to_string(), double.to_string());
    }

    proptest::proptest! {
        #[test]
        fn doubles_survive(double in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            let number = Number::from_f64(double).unwrap();
            assert_eq!(number.to_f64(), double);
            assert_eq!(number.to_string().parse::<f64>(), Ok(double));
        }

        #[test]
        fn text_survives(text in "-?[0-9]{1,60}(\\.[0-9]{0,60}[1-9])?") {
            let printed = n(&text).to_string();
            assert_eq!(n(&printed), n(&text));
            let digits = text.trim_start_matches('-').trim_start_matches('0');
            let printed = printed.trim_start_matches('-').trim_start_matches('0');
            assert_eq!(printed, digits);
        }

        #[test]
        fn arithmetic_agrees_with_integers(a: i64, b: i64) {
            let (x, y) = (Number::from(a), Number::from(b));
            assert_eq!(x.cmp(&y), a.cmp(&b));
            if let Some(sum) = a.checked_add(b) {
                assert_eq!(x.add(&y).unwrap().to_i64(), Some(sum));
            }
            if let Some(product) = a.checked_mul(b) {
                assert_eq!(x.mul(&y).unwrap().to_i64(), Some(product));
            }
            if let Some(rest) = a.checked_rem(b) {
                assert_eq!(x.rem(&y).unwrap().to_i64(), Some(rest));
            }
        }

        #[test]
        fn any_text_is_a_number_or_not(text in "[-+0-9.eEpPInf]{0,12}") {
            let _ = text.parse::<Number>().map(|n| (n.to_string(), n.neg().to_f64(), n.floor()));
        }
    }
}
