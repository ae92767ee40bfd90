//! Which column of csv and json files is the text: chosen once, for all files of a run.

use super::column::{ARRAY, Cell, Column, NULL, NUMBER, Sample, listed};
use super::error::SourceError;
use super::find::SourceFile;
use super::format::RowOptions;

/// The column for all these files: the named one, else `text`, else the first of the first file. All files must have it.
pub(super) fn choose<'a>(
    files: impl Iterator<Item = &'a SourceFile>,
    named: Option<&str>,
    options: &RowOptions,
) -> Result<Column, SourceError> {
    let mut chosen: Option<(Column, &SourceFile)> = None;
    for file in files {
        // What lies on other machines is looked at when its rows are wanted, but for the first.
        if chosen.is_some() && file.place.remote().is_some() {
            continue;
        }
        let Some(sample) = sample(file, options)? else { continue };
        match &chosen {
            None => {
                if let Some(delimiter) = sample.separated_by {
                    tracing::info!("{}: its columns are separated by {delimiter}", file.place.path.display());
                }
                let column = first_choice(file, &sample, named)?;
                if named.is_none() {
                    say(file, &sample, &column);
                }
                chosen = Some((column, file));
            }
            Some((column, first)) => agrees(file, &sample, column, first)?,
        }
    }
    Ok(chosen.map(|(column, _)| column).unwrap_or_default())
}

/// None of files without columns, and of those without rows.
fn sample(file: &SourceFile, options: &RowOptions) -> Result<Option<Sample>, SourceError> {
    let Some(sample) = file.format.sample else { return Ok(None) };
    let sample = sample(&file.place, options)?;
    Ok((!sample.columns.is_empty()).then_some(sample))
}

fn first_choice(file: &SourceFile, sample: &Sample, named: Option<&str>) -> Result<Column, SourceError> {
    if let Some(name) = named {
        return if sample.has(name) {
            Ok(Column { name: name.into(), is_first: false })
        } else {
            Err(SourceError::Column {
                path: file.place.path.clone(),
                line: sample.line,
                column: name.into(),
                columns: listed(&sample.columns),
            })
        };
    }
    if sample.has("text") {
        return Ok(Column::default());
    }
    let name = sample.columns.first().cloned().unwrap_or_default();
    match no_text(&sample.first) {
        None => Ok(Column { name, is_first: true }),
        Some(kind) => Err(SourceError::FirstColumn {
            path: file.place.path.clone(),
            advice: if kind == ARRAY && sample.columns.len() == 1 {
                format!("if the rows lie in it, make them objects of their own, such as with jq -c '.{name}[]'")
            } else {
                "choose one with --text_column".into()
            },
            column: name,
            kind,
            columns: listed(&sample.columns),
        }),
    }
}

fn say(file: &SourceFile, sample: &Sample, column: &Column) {
    let others: Vec<String> = sample.columns.iter().filter(|name| **name != column.name).cloned().collect();
    if !others.is_empty() {
        let (path, name, why) =
            (file.place.path.display(), &column.name, if column.is_first { ", the first one" } else { "" });
        tracing::info!(
            "{path}: the text is column `{name}`{why}; the others are: {} (--text_column names another)",
            listed(&others)
        );
    }
}

fn agrees(file: &SourceFile, sample: &Sample, column: &Column, first: &SourceFile) -> Result<(), SourceError> {
    let problem = if !sample.has(&column.name) {
        format!("no column `{}`", column.name)
    } else if column.is_first && sample.has("text") {
        "a column `text`".to_owned()
    } else {
        return Ok(());
    };
    Err(SourceError::Disagree {
        path: file.place.path.clone(),
        problem,
        columns: listed(&sample.columns),
        first: first.place.path.clone(),
        column: column.name.clone(),
    })
}

/// What all of these cells are, if that is nothing to learn language from.
fn no_text(cells: &[Cell]) -> Option<&'static str> {
    let mut kinds = Vec::new();
    for cell in cells {
        kinds.push(match cell {
            Cell::Other(kind) if *kind == NULL => continue,
            Cell::Text(text) if text.trim().is_empty() => continue,
            Cell::Other(NUMBER) => "numbers",
            Cell::Other(kind) => return Some(kind),
            Cell::Text(text) => value_kind(text.trim())?,
        });
    }
    let all = |kind: &str| kinds.iter().all(|found| *found == kind);
    match kinds[..] {
        [] => None,
        _ if all("numbers") => Some("numbers"),
        _ if all("dates") => Some("dates"),
        _ => Some("ids"),
    }
}

/// Numbers, dates or ids; None of a value that may be language.
fn value_kind(value: &str) -> Option<&'static str> {
    let has_digit = value.bytes().any(|byte| byte.is_ascii_digit());
    if !has_digit || !value.is_ascii() {
        return None;
    }
    let bare: String = value.chars().filter(|c| !",_$%".contains(*c)).collect();
    if bare.trim().parse::<f64>().is_ok() {
        Some("numbers")
    } else if is_date(value) {
        Some("dates")
    } else {
        let of_ids = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:#@+".contains(&byte);
        value.bytes().all(of_ids).then_some("ids")
    }
}

/// Digits, with names of months and days, halves of the day and zones among them.
fn is_date(value: &str) -> bool {
    const WORDS: &[&str] = &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "mon", "tue", "wed", "thu",
        "fri", "sat", "sun", "am", "pm", "utc", "gmt", "t", "z", "st", "nd", "rd", "th",
    ];
    let full = ["january", "february", "march", "april", "june", "july", "august", "sept", "september", "october"];
    let more = ["november", "december", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let lower = value.to_ascii_lowercase();
    let mut words = lower.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    let numbers = lower.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).count();
    let separators = lower.chars().all(|c| c.is_ascii_alphanumeric() || " -/.:,+".contains(c));
    numbers >= 2 && separators && words.all(|word| [WORDS, &full, &more].iter().any(|list| list.contains(&word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(values: &[&str]) -> Option<&'static str> {
        no_text(&values.iter().map(|value| Cell::Text((*value).into())).collect::<Vec<_>>())
    }

    #[test]
    fn numbers_dates_and_ids_are_no_language() {
        assert_eq!(kind(&["1", " -2.5", "1e6", "1,000", "50%", ""]), Some("numbers"));
        let dates = [
            "2024-01-05",
            "05/01/2024 10:30 PM",
            "5 January 2024",
            "Mon, 05 Jan 2024 10:00:00 GMT",
            "2024-01-05T10:00:00Z",
        ];
        for date in dates {
            assert_eq!(kind(&[date]), Some("dates"), "{date}");
        }
        let ids = ["train_0001", "Q42", "123e4567-e89b-12d3-a456-426614174000", "https://a.org/?1"];
        for id in &ids[..3] {
            assert_eq!(kind(&[id]), Some("ids"), "{id}");
        }
        assert_eq!(kind(&["7", "2024-01-05"]), Some("ids"));
        assert_eq!(no_text(&[Cell::Other(NULL), Cell::Other(NUMBER)]), Some("numbers"));
        assert_eq!(no_text(&[Cell::Other("an array")]), Some("an array"));
    }

    #[test]
    fn language_is_language() {
        for text in ["a", "In 2024 it rained.", "May 5 may be late", "pos", "1 apple", "Änderung 5", "chapter 7"] {
            assert_eq!(kind(&[text]), None, "{text}");
        }
        assert_eq!(kind(&["1", "2", "three"]), None);
        assert_eq!(kind(&["", " "]), None);
        assert_eq!(kind(&[]), None);
    }
}
