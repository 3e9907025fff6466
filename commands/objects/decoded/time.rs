//! Dates and times. A tick is 100 nanoseconds; ticks of dates count from the first of January of year 1 (dotnet/runtime
//! `src/libraries/System.Private.CoreLib/src/System/DateTime.cs`).

const PER_SECOND: u64 = 10_000_000;
const PER_DAY: u64 = 86_400 * PER_SECOND;
/// Days of the years 1 to 9999.
const MAX_DAYS: u64 = 3_652_059;
/// The upper two bits of a `DateTime` are its kind.
const TICKS: u64 = (1 << 62) - 1;

/// A `DateTime`: `2024-05-06 07:08:09 UTC`; of no kind without a word behind.
pub fn date_time(data: u64) -> Option<String> {
    let kind = match data >> 62 {
        0 => "",
        1 => " UTC",
        _ => " local",
    };
    Some(format!("{}{kind}", moment(data & TICKS)?))
}

/// A `DateTimeOffset`: the clock's time and its distance from UTC, of which the dump has UTC.
pub fn date_time_offset(utc: u64, minutes: i64) -> Option<String> {
    let shift = i128::from(minutes) * 60 * i128::from(PER_SECOND);
    let clock = u64::try_from(i128::from(utc & TICKS) + shift).ok()?;
    let (sign, distance) = (if minutes < 0 { '-' } else { '+' }, minutes.unsigned_abs());
    Some(format!("{} {sign}{:02}:{:02}", moment(clock)?, distance / 60, distance % 60))
}

/// A `DateOnly`, by its number of days.
pub fn date(days: i64) -> Option<String> {
    let days = u64::try_from(days).ok().filter(|&d| d < MAX_DAYS)?;
    let (year, month, day) = civil(days);
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

/// A `TimeOnly`.
pub fn time_of_day(ticks: u64) -> Option<String> {
    (ticks < PER_DAY).then(|| clock(ticks))
}

/// A `TimeSpan`: `[-][d.]hh:mm:ss[.fffffff]`.
pub fn time_span(ticks: i64) -> String {
    let (sign, all) = (if ticks < 0 { "-" } else { "" }, ticks.unsigned_abs());
    let days = match all / PER_DAY {
        0 => String::new(),
        n => format!("{n}."),
    };
    format!("{sign}{days}{}", clock(all % PER_DAY))
}

fn moment(ticks: u64) -> Option<String> {
    let day = date((ticks / PER_DAY) as i64)?;
    Some(format!("{day} {}", clock(ticks % PER_DAY)))
}

/// `07:08:09`, with a fraction where there is one.
fn clock(ticks: u64) -> String {
    let (seconds, rest) = (ticks / PER_SECOND, ticks % PER_SECOND);
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match rest {
        0 => text,
        _ => format!("{text}.{}", format!("{rest:07}").trim_end_matches('0')),
    }
}

/// Year, month and day of a number of days since the first of January of year 1.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted in years that begin in March, leap days are at their ends.
    let days = days + 306;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_dotnet() {
        // `new DateTime(2024, 5, 6, 7, 8, 9, DateTimeKind.Utc).Ticks` and others.
        assert_eq!(date_time(638_505_760_890_000_000 | 1 << 62).unwrap(), "2024-05-06 07:08:09 UTC");
        assert_eq!(date_time(0).unwrap(), "0001-01-01 00:00:00");
        assert_eq!(date_time(3_155_378_975_999_999_999).unwrap(), "9999-12-31 23:59:59.9999999");
        assert_eq!(date_time(3_155_378_976_000_000_000), None);
        assert_eq!(date_time_offset(638_505_760_890_000_000, -90).unwrap(), "2024-05-06 05:38:09 -01:30");
        assert_eq!(date(730_178).unwrap(), "2000-02-29");
        assert_eq!(date(730_179).unwrap(), "2000-03-01");
        assert_eq!(date(-1), None);
    }

    #[test]
    fn spans_are_those_of_dotnet() {
        assert_eq!(time_span(54_000_000_000), "01:30:00");
        assert_eq!(time_span(-1), "-00:00:00.0000001");
        assert_eq!(time_span(i64::MIN), "-10675199.02:48:05.4775808");
        assert_eq!(time_of_day(PER_DAY), None);
        assert_eq!(time_of_day(5_000_000).unwrap(), "00:00:00.5");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = civil(0);
        assert_eq!(before, (1, 1, 1));
        for day in 1..MAX_DAYS {
            let (y, m, d) = civil(day);
            let next = match before {
                (y0, m0, d0) if (y, m) == (y0, m0) => d == d0 + 1,
                (y0, 12, 31) => (y, m, d) == (y0 + 1, 1, 1),
                (y0, m0, d0) => (y, m, d) == (y0, m0 + 1, 1) && d0 >= 28,
            };
            assert!(next, "{before:?} -> {:?}", (y, m, d));
            before = (y, m, d);
        }
        assert_eq!(before, (9999, 12, 31));
    }
}
