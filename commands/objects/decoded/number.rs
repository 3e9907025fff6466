//! Numbers, and what is written like one, as .NET spells them in the invariant culture.

/// Most words of a big integer written out; the work grows with the square.
pub const MAX_WORDS: u64 = 1 << 10;

/// A `Double` in the shortest form that reads back as the same number: `0.1`, `1E+300`, `NaN`.
pub fn double(v: f64) -> String {
    real(v.is_nan(), v.is_infinite(), v.is_sign_negative(), &format!("{:e}", v.abs()), 15)
}

/// As [`double`], of a `Single`.
pub fn single(v: f32) -> String {
    real(v.is_nan(), v.is_infinite(), v.is_sign_negative(), &format!("{:e}", v.abs()), 7)
}

/// A `Half`, by its bits.
pub fn half(bits: u16) -> String {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 0x1F), f32::from(bits & 0x3FF));
    let value = match exponent {
        0 => fraction * 2f32.powi(-24),
        0x1F if fraction == 0.0 => f32::INFINITY,
        0x1F => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    single(if sign == 1 { -value } else { value })
}

/// From the digits of `1.234e5`. Numbers of more than `precision` digits, and of less than a ten-thousandth, have an
/// exponent (dotnet/runtime `src/libraries/System.Private.CoreLib/src/System/Number.Formatting.cs`, format `R`).
fn real(nan: bool, infinite: bool, negative: bool, shortest: &str, precision: i32) -> String {
    let sign = if negative { "-" } else { "" };
    if nan {
        return "NaN".into();
    }
    if infinite {
        return format!("{sign}Infinity");
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let length = digits.len() as i32;
    // Digits in front of the decimal point.
    let point = exponent + 1;
    if point > length.max(precision) || point < -3 {
        let (first, rest) = digits.split_at(1.min(digits.len()));
        let rest = if rest.is_empty() { String::new() } else { format!(".{rest}") };
        let way = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{rest}E{way}{:02}", exponent.unsigned_abs());
    }
    let text = if point <= 0 {
        format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
    } else if point >= length {
        format!("{digits}{}", "0".repeat((point - length) as usize))
    } else {
        let (whole, part) = digits.split_at(point as usize);
        format!("{whole}.{part}")
    };
    // Zero itself has an exponent of its own.
    format!("{sign}{}", if digits == "0" { "0" } else { &text })
}

/// A `Decimal`: 96 bits, and in the flags the sign and how many digits stand behind the point.
pub fn decimal(flags: u32, high: u32, low: u64) -> Option<String> {
    let scale = (flags >> 16 & 0xFF) as usize;
    if scale > 28 || flags & 0x7F00_FFFF != 0 {
        return None;
    }
    let number = u128::from(high) << 64 | u128::from(low);
    let digits = format!("{number:0>width$}", width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    let sign = if flags >> 31 == 1 { "-" } else { "" };
    Some(match part {
        "" => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{part}"),
    })
}

/// A `Guid`: 32 and twice 16 bits as numbers, then bytes.
pub fn guid(bytes: &[u8]) -> Option<String> {
    let b: &[u8; 16] = bytes.try_into().ok()?;
    let tail: String = b[10..].iter().map(|b| format!("{b:02x}")).collect();
    Some(format!(
        "{:08x}-{:04x}-{:04x}-{:02x}{:02x}-{tail}",
        u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        u16::from_le_bytes([b[4], b[5]]),
        u16::from_le_bytes([b[6], b[7]]),
        b[8],
        b[9]
    ))
}

/// The decimal digits of a number given in words of 32 bits, the lowest first.
pub fn big(mut words: Vec<u32>) -> String {
    const BILLION: u64 = 1_000_000_000;
    let mut parts = Vec::new();
    while words.last() == Some(&0) {
        words.pop();
    }
    while !words.is_empty() {
        let mut rest = 0u64;
        for word in words.iter_mut().rev() {
            let at = rest << 32 | u64::from(*word);
            (*word, rest) = ((at / BILLION) as u32, at % BILLION);
        }
        parts.push(rest);
        while words.last() == Some(&0) {
            words.pop();
        }
    }
    let mut text = parts.pop().unwrap_or(0).to_string();
    for part in parts.iter().rev() {
        text.push_str(&format!("{part:09}"));
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reals_are_spelled_as_dotnet_spells_them() {
        for (v, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (12.5, "12.5"),
            (100.0, "100"),
            (1e300, "1E+300"),
            (1e-9, "1E-09"),
            (0.0001, "0.0001"),
            (0.00001, "1E-05"),
            (1e14, "100000000000000"),
            (1e15, "1E+15"),
            (123_456_789_012_345_680.0, "1.2345678901234568E+17"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::MAX, "1.7976931348623157E+308"),
            (5e-324, "5E-324"),
        ] {
            assert_eq!(double(v), text);
        }
        assert_eq!((single(0.1), single(1e7), single(1_234_567.0)), ("0.1".into(), "1E+07".into(), "1234567".into()));
        assert_eq!((half(0x3C00), half(0xC000), half(0x7BFF)), ("1".into(), "-2".into(), "65504".into()));
    }

    #[test]
    fn decimals_keep_their_digits() {
        assert_eq!(decimal(2 << 16, 0, 1250).unwrap(), "12.50");
        assert_eq!(decimal(1 << 31 | 3 << 16, 0, 5).unwrap(), "-0.005");
        assert_eq!(decimal(0, u32::MAX, u64::MAX).unwrap(), "79228162514264337593543950335");
        assert_eq!(decimal(29 << 16, 0, 1), None);
    }

    #[test]
    fn big_numbers_are_whole() {
        assert_eq!(big(vec![0, 0, 1]), "18446744073709551616");
        assert_eq!(big(vec![0, 0]), "0");
        assert_eq!(big(vec![u32::MAX; 4]), u128::MAX.to_string());
    }
}
