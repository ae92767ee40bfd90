//! Slices of splits, such as `train[:10%]`: `ReadInstruction` of Python's `datasets`.

use regex::Regex;

use super::error::DatasetError;
use super::splits::SplitFiles;

/// Rows of a split, from one to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The split's name.
    pub split: String,
    from: Option<i64>,
    to: Option<i64>,
    percent: bool,
    /// `(pct1_dropremainder)`: every percent has as many rows as the others, and what is left belongs to none.
    drops_remainder: bool,
}

/// A slice, with the files of its split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitPart {
    /// Which rows.
    pub slice: Slice,
    /// Of which files.
    pub files: Vec<String>,
}

/// The files of what `wanted` names: a split, slices of splits, several of these joined by `+`, or `all` splits; and what of
/// them is read, nothing said being all.
///
/// # Errors
/// If it is not understood, or the data set `name` has no such split.
pub fn files_of(
    name: &str,
    wanted: &str,
    splits: &[SplitFiles],
) -> Result<(Vec<String>, Vec<SplitPart>), DatasetError> {
    // As in Python, nothing else can be said of `all`.
    if wanted.trim() == "all" && splits.iter().all(|split| split.name != "all") {
        return Ok((splits.iter().flat_map(|split| split.files.clone()).collect(), Vec::new()));
    }
    let mut parts = Vec::new();
    for slice in Slice::parse(wanted)? {
        let Some(found) = splits.iter().find(|found| found.name == slice.split) else {
            let known = splits.iter().map(|split| split.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(DatasetError::Split { name: name.into(), split: slice.split, known });
        };
        parts.push(SplitPart { slice, files: found.files.clone() });
    }
    if parts.iter().all(|part| part.slice.is_whole()) {
        return Ok((parts.into_iter().flat_map(|part| part.files).collect(), Vec::new()));
    }
    // Each once, however many slices there are of its split.
    let mut files: Vec<String> = Vec::new();
    for file in parts.iter().flat_map(|part| &part.files) {
        if !files.contains(file) {
            files.push(file.clone());
        }
    }
    Ok((files, parts))
}

impl Slice {
    /// The slices that a text joins by `+`.
    ///
    /// # Errors
    /// If one is not understood.
    pub fn parse(text: &str) -> Result<Vec<Self>, DatasetError> {
        text.split('+').map(|part| Self::one(part.trim())).collect()
    }

    fn one(text: &str) -> Result<Self, DatasetError> {
        let fails = |reason: &str| DatasetError::Slice(text.into(), reason.into());
        let form = Regex::new(
            r"^(?P<split>\w+(\.\w+)*)(\[((?P<from>-?[0-9_]+)(?P<a>%)?)?:((?P<to>-?[0-9_]+)(?P<b>%)?)?\])?(?P<r>\(.*\))?$",
        );
        let found = form.map_err(|error| fails(&error.to_string()))?;
        let found = found.captures(text).ok_or_else(|| fails("is no split and no slice of one"))?;
        let percent = found.name("a").is_some() || found.name("b").is_some();
        let drops_remainder = match found.name("r").map(|rounding| rounding.as_str()) {
            None => false,
            Some(_) if !percent => return Err(fails("only percentages are rounded")),
            Some("(closest)") => false,
            Some("(pct1_dropremainder)") => true,
            Some(_) => return Err(fails("percentages are rounded (closest) or (pct1_dropremainder)")),
        };
        let number = |name| match found.name(name) {
            None => Ok(None),
            Some(text) => match text.as_str().replace('_', "").parse::<i64>() {
                Ok(number) if percent && number.abs() > 100 => Err(fails("a percentage lies in -100 to 100")),
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(fails("has a number that is none")),
            },
        };
        let split = found["split"].to_string();
        Ok(Self { split, from: number("from")?, to: number("to")?, percent, drops_remainder })
    }

    /// Whether it is the whole split.
    pub fn is_whole(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// The first row and the one after the last of a split of so many rows.
    ///
    /// # Errors
    /// In words, if a percent of so few rows is none.
    pub(super) fn range(&self, rows: u64) -> Result<(u64, u64), String> {
        if self.drops_remainder && rows < 100 {
            return Err(format!("(pct1_dropremainder) leaves nothing of the {rows} rows of `{}`", self.split));
        }
        let bound = |at: Option<i64>, default: u64| {
            let Some(at) = at else { return default };
            let size = match self.percent {
                true if self.drops_remainder => at.unsigned_abs() * (rows / 100),
                true => percent_of(at.unsigned_abs() as u32, rows),
                false => at.unsigned_abs(),
            };
            if at < 0 { rows.saturating_sub(size) } else { size.min(rows) }
        };
        let (from, to) = (bound(self.from, 0), bound(self.to, rows));
        Ok((from, to.max(from)))
    }
}

/// `int(round(percent * rows / 100.0))` of Python's `datasets`, halves to the even number.
pub(super) fn percent_of(percent: u32, rows: u64) -> u64 {
    ((u128::from(percent) * u128::from(rows)) as f64 / 100.0).round_ties_even() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `int(round(p * n / 100.0))` in Python.
    #[test]
    fn percentages_round_as_in_datasets() {
        for (percent, rows, expected) in
            [(5, 10, 0), (5, 30, 2), (5, 50, 2), (5, 70, 4), (1, 150, 2), (1, 250, 2), (33, 100, 33), (99, 1, 1)]
        {
            assert_eq!(percent_of(percent, rows), expected, "{percent} % of {rows}");
        }
    }

    #[test]
    fn all_is_all_splits() {
        let split =
            |name: &str, file: &str| SplitFiles { name: name.into(), files: vec![file.into(), format!("{file}2")] };
        let splits = [split("train", "a"), split("test", "b")];
        let files = |files: &[&str]| files.iter().map(|file| file.to_string()).collect::<Vec<_>>();
        assert_eq!(files_of("d", "all", &splits).unwrap(), (files(&["a", "a2", "b", "b2"]), vec![]));
        for unknown in ["all[:2]", "train+all", "ALL"] {
            let error = files_of("d", unknown, &splits).unwrap_err().to_string();
            assert!(
                error.starts_with("d: has no split `") && error.ends_with("are: train, test"),
                "{unknown}: {error}"
            );
        }
    }

    /// `_rel_to_abs_instr` of Python.
    #[test]
    fn slices_are_those_of_datasets() {
        for (text, rows, expected) in [
            ("train", 7, (0, 7)),
            ("train[:]", 7, (0, 7)),
            ("train[:5%]", 50, (0, 2)),
            ("train[5%:]", 50, (2, 50)),
            ("train[-3:]", 50, (47, 50)),
            ("train[:-5%]", 50, (0, 48)),
            ("train[10%:20%]", 41, (4, 8)),
            ("train[1_0:2_00]", 41, (10, 41)),
            ("train[-100:]", 41, (0, 41)),
            ("train[30:20]", 41, (30, 30)),
            ("train[:50%](closest)", 41, (0, 20)),
            ("train[:50%](pct1_dropremainder)", 257, (0, 100)),
            ("train[-7%:](pct1_dropremainder)", 257, (243, 257)),
            ("train[10%:](pct1_dropremainder)", 199, (10, 199)),
        ] {
            let slice = &Slice::parse(text).unwrap()[0];
            assert_eq!((slice.split.as_str(), slice.range(rows)), ("train", Ok(expected)), "{text}");
        }
        let none = Slice::parse("train[:50%](pct1_dropremainder)").unwrap()[0].range(99);
        assert!(none.unwrap_err().contains("99 rows of `train`"));
        let joined = Slice::parse("train[:10] + validation").unwrap();
        assert_eq!((joined.len(), joined[1].split.as_str(), joined[1].is_whole()), (2, "validation", true));
        for bad in
            ["", "train[", "train[5]", "train[:101%]", "train[:50%](up)", "train[:5](closest)", "train[a:]", "train+"]
        {
            assert!(Slice::parse(bad).is_err(), "{bad}");
        }
    }
}
