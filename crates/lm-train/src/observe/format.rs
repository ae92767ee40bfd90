//! Numbers, sizes and times for people, and numbers as Python writes them.

/// A number with five significant digits, written as C's `%.5g`: `5.1002`, `4.5e-05`, `12346`.
pub(crate) fn short_number(value: f64) -> String {
    const DIGITS: i32 = 5;
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.*e}", DIGITS as usize - 1);
    let Some((mantissa, Ok(exponent))) = scientific.split_once('e').map(|(m, e)| (m, e.parse::<i32>())) else {
        return value.to_string().to_lowercase(); // nan, inf
    };
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
        without_trailing_zeros(&format!("{value:.decimals$}")).to_owned()
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", without_trailing_zeros(mantissa), exponent.abs())
    }
}

fn without_trailing_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// A float as Python's `repr` writes it.
pub(crate) fn python_float(number: f64) -> String {
    if !number.is_finite() {
        return number.to_string().to_lowercase();
    }
    let scientific = format!("{number:e}");
    match scientific.split_once('e').map(|(mantissa, exponent)| (mantissa, exponent.parse::<i32>())) {
        Some((mantissa, Ok(exponent))) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ if number.fract() == 0.0 => format!("{number:.1}"),
        _ => number.to_string(),
    }
}

/// `1:02:03`, or `2d 1:02:03` from a day on.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let days = if days > 0 { format!("{days}d ") } else { String::new() };
    format!("{days}{hours}:{minutes:02}:{:02}", seconds % 60)
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Three digits: `950`, `12.8k`, `1.23M`.
pub(crate) fn compact(number: f64) -> String {
    let number = number.max(0.0);
    // 999.5 would be shown as 1000.
    let (scaled, unit) = [(1e9, "G"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|(unit, _)| number >= unit * 0.9995)
        .map_or((number, ""), |(unit, name)| (number / unit, name));
    let digits = match scaled {
        _ if unit.is_empty() => 0,
        99.95.. => 0,
        9.995.. => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{unit}")
}

/// `1.5 GiB`: three significant digits at most, in binary units.
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    // 999.5 would be shown as 1000.
    while size >= 999.5 {
        size /= 1024.0;
        unit = units.next();
    }
    let digits = if size < 9.95 { 1 } else { 0 };
    format!("{size:.digits$} {}", unit.unwrap_or(&"EiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_c_writes_them() {
        let shown = [
            5.100_23,
            4.5e-5,
            123_456.0,
            99_999.6,
            0.0,
            1.0,
            -0.000_123_456,
            1e-4,
            12_345.4,
            1e300,
            f64::NAN,
            f64::NEG_INFINITY,
        ]
        .map(short_number);
        let expected = [
            "5.1002",
            "4.5e-05",
            "1.2346e+05",
            "1e+05",
            "0",
            "1",
            "-0.00012346",
            "0.0001",
            "12345",
            "1e+300",
            "nan",
            "-inf",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn times_and_counts_are_readable() {
        assert_eq!(
            [0.4, 59.6, 3723.0, 180_000.0, -1.0].map(duration),
            ["0:00:00", "0:01:00", "1:02:03", "2d 2:00:00", "0:00:00"]
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let speeds = [0.4, 949.7, 999.6, 12_845.6, 99_960.0, 123_456.0, 1_234_567.0, 2e9];
        assert_eq!(speeds.map(compact), ["0", "950", "1.00k", "12.8k", "100k", "123k", "1.23M", "2.00G"]);
    }

    #[test]
    fn sizes_are_readable() {
        let sizes = [0, 1023, 1024, 1536, 10 << 10, 1023 << 10, 1_320_000_000, 5 << 40, u64::MAX].map(human_size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10 KiB", "1.0 MiB", "1.2 GiB", "5.0 TiB", "16 EiB"]);
    }
}
