//! Numbers and times as text, written straight into the buffer of a line: a heap of millions of objects prints several
//! times as many numbers.

use std::cell::Cell;

thread_local! {
    /// Hexadecimal digits of an address of the dump that a shell on this thread opened last.
    static DIGITS: Cell<usize> = const { Cell::new(16) };
}

/// Hexadecimal digits of an address of the open dump, zeros in front included: 16, or 8 where a pointer has 4 bytes.
pub fn digits() -> usize {
    DIGITS.get()
}

/// As [`digits`], where SOS leaves out the zeros every address of 8 bytes begins with: 12, or 8.
pub fn narrow_digits() -> usize {
    digits().min(12)
}

/// Has this thread write addresses with so many digits, as the shell's own does.
pub fn set_digits(digits: usize) {
    DIGITS.set(digits);
}

/// Tells the size of a pointer of the dump that a shell on this thread opens.
pub fn set_pointer_size(bytes: u8) {
    DIGITS.set(2 * usize::from(bytes));
}

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

fn push_base16(out: &mut Vec<u8>, value: u64, width: usize, alphabet: &[u8; 16]) {
    let needed = (16 - value.leading_zeros() as usize / 4).max(1);
    let length = needed.max(width.min(16));
    let mut text = [b'0'; 16];
    let mut rest = value;
    for place in text.iter_mut().rev().take(needed) {
        *place = alphabet[(rest & 15) as usize];
        rest >>= 4;
    }
    out.extend_from_slice(&text[16 - length..]);
}

/// Appends `value` in hexadecimal, zeros in front up to `width` digits (16 at most).
pub fn push_hex(out: &mut Vec<u8>, value: u64, width: usize) {
    push_base16(out, value, width, LOWER);
}

/// As [`push_hex`] with capitals.
pub fn push_hex_upper(out: &mut Vec<u8>, value: u64, width: usize) {
    push_base16(out, value, width, UPPER);
}

/// Appends `value` in decimal, with a comma before each three digits when `commas`.
fn push_base10(out: &mut Vec<u8>, value: u64, commas: bool) {
    // 20 digits and 6 commas at most.
    let mut text = [0u8; 26];
    let (mut at, mut rest, mut written) = (text.len(), value, 0);
    loop {
        if commas && written > 0 && written % 3 == 0 {
            at -= 1;
            text[at] = b',';
        }
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        written += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// Appends `value` in decimal.
pub fn push_decimal(out: &mut Vec<u8>, value: u64) {
    push_base10(out, value, false);
}

/// Appends `value` in decimal, with a minus where it is negative.
pub fn push_signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    push_decimal(out, value.unsigned_abs());
}

/// Appends `1234567` as `1,234,567`.
pub fn push_thousands(out: &mut Vec<u8>, value: u64) {
    push_base10(out, value, true);
}

/// `1234567` as `1,234,567`.
pub fn thousands(n: u64) -> String {
    let mut text = Vec::with_capacity(26);
    push_thousands(&mut text, n);
    text.into_iter().map(char::from).collect()
}

/// Year, month, day, hour, minute and second of a moment in seconds since 1970 (civil-from-days, proleptic Gregorian).
fn civil(seconds: u64) -> (i64, u64, u64, u64, u64, u64) {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days as i64 + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097) as u64;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe as i64 + era * 400 + i64::from(month <= 2);
    (year, month, day, rest / 3600, rest / 60 % 60, rest % 60)
}

/// Seconds since 1970 as `YYYY-MM-DD HH:MM:SS UTC`.
pub fn utc(seconds: u64) -> String {
    let (year, month, day, h, m, s) = civil(seconds);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} UTC")
}

/// Seconds since 1970 as `YYYY-MM-DDTHH:MM:SSZ` (RFC 3339).
pub fn rfc3339(seconds: u64) -> String {
    let (year, month, day, h, m, s) = civil(seconds);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

/// Seconds since 1970 of `YYYY-MM-DD`, with `HH:MM` or `HH:MM:SS` behind a `T` or a blank, `Z` or ` UTC` at the end or not:
/// what [`utc`] and [`rfc3339`] write.
pub fn seconds(text: &str) -> Option<u64> {
    let text = text.trim_end_matches(['Z', 'z']).trim_end_matches(" UTC");
    let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00"));
    let mut parts = date.splitn(3, '-').map(digits_of);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let mut parts = time.splitn(3, ':').map(digits_of);
    let (h, m, s) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || h > 23 || m > 59 || s > 59 {
        return None;
    }
    // Days-from-civil, the reverse of what `civil` does.
    let y = year - u64::from(month <= 2);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let yoe = y % 400;
    let days = y / 400 * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy;
    let seconds = days.checked_sub(719_468)? * 86_400 + h * 3600 + m * 60 + s;
    // A day that the month does not have comes back as another.
    let back = civil(seconds);
    ((back.1, back.2) == (month, day)).then_some(seconds)
}

fn digits_of(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::buffer::written as text;
    use super::*;

    #[test]
    fn times() {
        assert_eq!(utc(1_764_086_393), "2025-11-25 15:59:53 UTC");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(seconds("2000-02-29"), Some(951_782_400));
        assert_eq!(seconds("1970-01-01 00:01"), Some(60));
        for no in ["2001-02-29", "2000-13-01", "2000-1", "12", "", "2000-01-01T24:00", "1969-12-31", "2000-01-00"] {
            assert_eq!(seconds(no), None, "{no}");
        }
    }

    proptest::proptest! {
        #[test]
        fn times_are_read_back(t in 0u64..200_000_000_000) {
            proptest::prop_assert_eq!(seconds(&utc(t)), Some(t));
            proptest::prop_assert_eq!(seconds(&rfc3339(t)), Some(t));
        }

        #[test]
        fn as_the_standard_library_has_them(value: u64, shift in 0u32..64, width in 0usize..=16) {
            let v = value >> shift;
            proptest::prop_assert_eq!(text(|o| push_hex(o, v, width)), format!("{v:0width$x}"));
            proptest::prop_assert_eq!(text(|o| push_hex_upper(o, v, width)), format!("{v:0width$X}"));
            proptest::prop_assert_eq!(text(|o| push_decimal(o, v)), v.to_string());
            proptest::prop_assert_eq!(text(|o| push_signed(o, v as i64)), (v as i64).to_string());
            let grouped = thousands(v);
            proptest::prop_assert_eq!(grouped.replace(',', ""), v.to_string());
            let parts: Vec<&str> = grouped.split(',').collect();
            proptest::prop_assert!(parts[1..].iter().all(|p| p.len() == 3) && (1..=3).contains(&parts[0].len()));
        }
    }
}
