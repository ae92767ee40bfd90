//! Which files a pattern of a data set matches: `resolve_pattern` of Python's `datasets`, over a list of paths.

use globset::GlobBuilder;

use super::error::DatasetError;
use crate::source::DESCRIPTIONS;

/// Whether a pattern is more than the name of a file.
pub(super) fn has_wildcards(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// The files that match, in the order of their paths. Hidden ones and those below folders of two underscores only where
/// the pattern says so.
pub(super) fn matching<'a>(name: &str, pattern: &str, files: &[&'a str]) -> Result<Vec<&'a str>, DatasetError> {
    let pattern = plain_path(pattern);
    let fails = |reason: String| DatasetError::Pattern { name: name.into(), pattern: pattern.clone(), reason };
    if pattern.split('/').any(|part| part.contains("**") && part != "**") {
        return Err(fails("`**` can only be a whole part between slashes".into()));
    }
    // Braces are letters to Python.
    let escaped = pattern.replace('{', "\u{0}").replace('}', "[}]").replace('\u{0}', "[{]");
    let glob = GlobBuilder::new(&escaped).literal_separator(true).backslash_escape(false).build();
    let matcher = glob.map_err(|error| fails(error.kind().to_string()))?.compile_matcher();
    let last = pattern.rsplit('/').next().unwrap_or_default();
    // Unless the pattern names it.
    let described = |file: &str| {
        let base = base_name(file);
        DESCRIPTIONS.contains(&base) && base != last
    };
    let mut found: Vec<&str> = files
        .iter()
        .copied()
        .filter(|file| matcher.is_match(file) && !described(file))
        .filter(|file| special_folders(file) == special_folders(&pattern) && hidden(file) == hidden(&pattern))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// A path without `./` and doubled slashes.
fn plain_path(path: &str) -> String {
    parts(path).collect::<Vec<_>>().join("/")
}

/// The names on a path, but for those that lead nowhere.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// A path from a folder of the data set on as one from the data set on, without `.` and `..`; None if it leads out of the
/// data set, or over what is no folder. Out of it and in again leads its own path, if that is known.
pub(super) fn within(root: Option<&str>, folder: &str, path: &str, files: &[String]) -> Option<String> {
    let root_parts: Vec<&str> = parts(root.unwrap_or_default()).collect();
    let mut walked = Vec::new();
    if path.starts_with('/') {
        root?;
    } else {
        walked.extend(root_parts.iter().copied().chain(parts(folder)));
    }
    for part in parts(path) {
        if part != ".." {
            walked.push(part);
            continue;
        }
        let is_there = match walked.strip_prefix(&root_parts[..]) {
            Some(below) => {
                let folder = below.iter().map(|part| format!("{part}/")).collect::<String>();
                files.iter().any(|file| file.starts_with(&folder))
            }
            None => root_parts.starts_with(&walked),
        };
        if !is_there {
            return None;
        }
        walked.pop()?;
    }
    Some(walked.strip_prefix(&root_parts[..])?.join("/"))
}

pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn special_folders(path: &str) -> usize {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    folder.split('/').filter(|part| part.starts_with("__")).count()
}

fn hidden(path: &str) -> usize {
    path.split('/').filter(|part| part.starts_with('.') && !part.chars().all(|letter| letter == '.')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python finds from a folder `/a/d`.
    #[test]
    fn paths_stay_within_the_data_set() {
        let files = ["x/y/0.txt", "a.txt"].map(String::from);
        for (folder, path, expected) in [
            ("", "./x//y/0.txt", Some("x/y/0.txt")),
            ("", "x/../a.txt", Some("a.txt")),
            ("", "x/y/../y/*.txt", Some("x/y/*.txt")),
            ("", "../d/x/y/0.txt", Some("x/y/0.txt")),
            ("", "../../a/d/**", Some("**")),
            ("", "/a/d/a.txt", Some("a.txt")),
            ("x/y", "../../a.txt", Some("a.txt")),
            ("x", "..", Some("")),
            ("", "..", None),
            ("", "../x/y/0.txt", None),
            ("", "../*/a.txt", None),
            ("", "gone/../a.txt", None),
            ("", "a.txt/../a.txt", None),
            ("", "../e/../d/a.txt", None),
            ("", "/x", None),
            ("", "../../../../a.txt", None),
        ] {
            assert_eq!(within(Some("/a/d"), folder, path, &files).as_deref(), expected, "{folder} {path}");
            let leaves = path.starts_with(['.', '/']) && folder.is_empty() && !path.starts_with("./");
            let expected = expected.filter(|_| !leaves);
            assert_eq!(within(None, folder, path, &files).as_deref(), expected, "{folder} {path} of the Hub");
        }
    }

    #[test]
    fn patterns_match_as_in_datasets() {
        let files =
            ["a.txt", "b/c.txt", "b/d/e.txt", ".h/f.txt", "__p/g.txt", "README.md", "b/.i.txt", "x{1}.txt", "q[1].txt"];
        for (pattern, expected) in [
            ("**", vec!["a.txt", "b/c.txt", "b/d/e.txt", "q[1].txt", "x{1}.txt"]),
            ("*.txt", vec!["a.txt", "q[1].txt", "x{1}.txt"]),
            ("b/**", vec!["b/c.txt", "b/d/e.txt"]),
            ("b/**/*.txt", vec!["b/c.txt", "b/d/e.txt"]),
            ("./b//c.txt", vec!["b/c.txt"]),
            (".h/*", vec![".h/f.txt"]),
            ("__p/*", vec!["__p/g.txt"]),
            ("*/*", vec!["b/c.txt"]),
            ("README.md", vec!["README.md"]),
            ("x{1}.txt", vec!["x{1}.txt"]),
            ("[a-b].txt", vec!["a.txt"]),
            ("b", vec![]),
        ] {
            assert_eq!(matching("d", pattern, &files).unwrap(), expected, "{pattern}");
        }
        let error = matching("d", "**.txt", &files).unwrap_err().to_string();
        assert!(error.contains("d: not a valid file pattern: **.txt"), "{error}");
    }
}
