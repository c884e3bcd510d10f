//! `log` and `pow` in doubles, by the steps that give the digits templates know: each step of them rounds, and another
//! way to the same result ends in other digits. They are those of Go's `math` on x86 with fused multiplication.

use std::f64::consts::{LOG2_E, SQRT_2};

/// The natural logarithm, as in FreeBSD's `e_log.c`: `x` is `2^k (1 + f)`, and a polynomial gives `log(1 + f)`.
fn ln(x: f64) -> f64 {
    if !(x > 0.0 && x.is_finite()) {
        return x.ln();
    }
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const ODD: [f64; 4] = [
        6.666_666_666_666_735e-1,
        2.857_142_874_366_239e-1,
        1.818_357_216_161_805e-1,
        1.479_819_860_511_658_6e-1,
    ];
    const EVEN: [f64; 3] = [3.999_999_999_940_942e-1, 2.222_219_843_214_978_4e-1, 1.531_383_769_920_937_3e-1];
    // The parts of a subnormal number are taken like those of any other: that is how its (wrong) logarithm comes about.
    let (mut fraction, mut exponent) = parts(x);
    if fraction < SQRT_2 / 2.0 {
        fraction *= 2.0;
        exponent -= 1;
    }
    let f = fraction - 1.0;
    let k = exponent as f64;
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2 * (ODD[0] + s4 * (ODD[1] + s4 * (ODD[2] + s4 * ODD[3])));
    let even = s4 * (EVEN[0] + s4 * (EVEN[1] + s4 * EVEN[2]));
    let half_square = 0.5 * f * f;
    k * LN2_HIGH - ((half_square - (s * (half_square + (odd + even)) + k * LN2_LOW)) - f)
}

/// `e` to a power between -400 and 400: `x` is `k ln 2 + 16 r`, a polynomial gives `e^r - 1`, and four doublings the rest.
fn exp(x: f64) -> f64 {
    const LN2_HIGH: f64 = 0.693_147_180_559_663;
    const LN2_LOW: f64 = 2.823_529_056_303_157_7e-13;
    // 1 / n!, from the eighth down.
    const SERIES: [f64; 8] =
        [1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
    let k = (x * LOG2_E).round_ties_even();
    let r = (-LN2_LOW).mul_add(k, (-LN2_HIGH).mul_add(k, x)) * 0.0625;
    let [first, rest @ ..] = SERIES;
    let mut y = r * rest.into_iter().fold(first, |sum, term| sum.mul_add(r, term));
    for _ in 0..3 {
        y *= y + 2.0;
    }
    join(y.mul_add(y + 2.0, 1.0), k as i64)
}

/// The logarithm of a number to a base.
pub(super) fn log(x: f64, base: f64) -> f64 {
    ln(x) / ln(base)
}

/// A power: the whole part of the exponent by squaring, the rest through the logarithm.
pub(super) fn pow(x: f64, y: f64) -> f64 {
    // Without one fraction and one exponent to work with, and where a root is exact.
    let special = x == 0.0 || y == 0.0 || !x.is_finite() || !y.is_finite() || y.abs() >= 2f64.powi(63);
    match () {
        () if special || x == 1.0 || y == 1.0 => return x.powf(y),
        () if x < 0.0 && y.fract() != 0.0 => return f64::NAN,
        () if y == 0.5 => return x.sqrt(),
        () if y == -0.5 => return 1.0 / x.sqrt(),
        () => {}
    }
    let (mut whole, mut rest) = (y.abs().trunc(), y.abs().fract());
    let mut result = 1.0;
    if rest != 0.0 {
        if rest > 0.5 {
            rest -= 1.0;
            whole += 1.0;
        }
        result = exp(rest * ln(x));
    }
    let (mut square, mut square_exponent) = split(x);
    let mut exponent = 0;
    let mut bits = whole as u64;
    while bits != 0 {
        if square_exponent.abs() > 1 << 12 {
            // Beyond what a double can hold, whatever follows.
            exponent += square_exponent;
            break;
        }
        if bits & 1 == 1 {
            result *= square;
            exponent += square_exponent;
        }
        square *= square;
        square_exponent *= 2;
        if square < 0.5 {
            square += square;
            square_exponent -= 1;
        }
        bits >>= 1;
    }
    if y < 0.0 { join(1.0 / result, -exponent) } else { join(result, exponent) }
}

/// A finite number that is not zero as a fraction from 0.5 to below 1, with its sign, and a power of two.
fn split(x: f64) -> (f64, i64) {
    if x.is_normal() {
        return parts(x);
    }
    let (fraction, exponent) = parts(x * 2f64.powi(54));
    (fraction, exponent - 54)
}

/// The same of a normal number.
fn parts(x: f64) -> (f64, i64) {
    const FRACTION: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    let exponent = (bits >> 52) & 0x7ff;
    let fraction = f64::from_bits((bits & (1 << 63 | FRACTION)) | 1022 << 52);
    (fraction, exponent as i64 - 1022)
}

/// The number of a fraction and a power of two.
fn join(fraction: f64, exponent: i64) -> f64 {
    // Two factors: one alone may be out of range where the product is not.
    let exponent = exponent.clamp(-2200, 2200) as i32;
    let half = exponent / 2;
    fraction * 2f64.powi(half) * 2f64.powi(exponent - half)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside what Go's `math` prints for the same.
    #[test]
    fn last_digits() {
        for (got, want) in [
            (log(3.0, 10.0), 0.4771212547196623),
            (log(3.0, 2.0), 1.584962500721156),
            (log(1000.0, 10.0), 2.9999999999999996),
            (pow(1.1, 10.0), 2.593742460100002),
            (pow(100.0, 64.0), 1.0000000000000003e128),
            (pow(2.345, 64.0), 4.888123964943279e23),
            (pow(2.0, 0.5), std::f64::consts::SQRT_2),
            (pow(1.5, 1.5), 1.8371173070873836),
            (pow(2.0, 1.0 / 3.0), 1.259921049894873),
            (pow(10.0, -0.3), 0.5011872336272722),
            (pow(0.001, 0.7), 0.007943282347242817),
            (pow(123.456, 7.89), 3.1771028258180932e16),
            (log(5e-324, 10.0), -307.95368556425274),
            (pow(2.0, -2.0), 0.25),
            (pow(-2.0, 3.0), -8.0),
            (pow(10.0, 400.0), f64::INFINITY),
            (pow(10.0, -400.0), 0.0),
            (pow(2.0, -1074.0), 5e-324),
            (pow(5e-324, 1.0), 5e-324),
            (pow(0.0, -1.0), f64::INFINITY),
            (log(0.0, 10.0), f64::NEG_INFINITY),
            (log(5.0, 1.0), f64::INFINITY),
        ] {
            assert_eq!(got, want);
        }
        assert!(pow(-8.0, 1.0 / 3.0).is_nan() && log(-1.0, 10.0).is_nan());
    }
}
