//! What stands in the pages can be typed, and their links lead somewhere. `scripts/run_pages.py` runs the guide's commands.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// The pages, by their paths from the root.
fn pages() -> Vec<(PathBuf, String)> {
    fn below(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => below(&path, into),
                false => into.extend(path.extension().is_some_and(|ending| ending == "md").then_some(path)),
            }
        }
    }
    let root = root();
    let mut paths: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].iter().map(|name| root.join(name)).collect();
    below(&root.join("docs"), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a page");
        (path.strip_prefix(&root).expect("below the root").to_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

/// The lines within fences, with what a backslash continues on one line, and those without.
fn code_and_text(page: &str) -> (Vec<String>, Vec<&str>) {
    let (mut code, mut text, mut inside, mut continues) = (Vec::<String>::new(), Vec::new(), false, false);
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            text.push(line);
        } else {
            let (part, more) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
            match code.last_mut().filter(|_| continues) {
                Some(last) => last.push_str(part),
                None => code.push(part.to_owned()),
            }
            continues = more;
        }
    }
    (code, text)
}

/// The words of a line of shell, as far as the pages need it: quotes, comments, and `|`, `&`, `;`, `>` and `<` as words.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(mark), _) if letter == mark => quote = None,
            (None, '\'' | '"') => (quote, begun) = (Some(letter), true),
            (None, '#') if word.is_empty() => break,
            (None, _) if letter.is_whitespace() || "|&;<>".contains(letter) => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
                words.extend((!letter.is_whitespace()).then(|| letter.to_string()));
            }
            _ => word.push(letter),
        }
    }
    words.extend((begun || !word.is_empty()).then_some(word));
    words
}

/// The program and the arguments of each command of ours in a line. What stands in examples for something else ends it.
fn commands(line: &str) -> Vec<(Task, Vec<String>)> {
    let program = |word: &str| Task::ALL.iter().copied().find(|task| word.rsplit('/').next() == Some(task.binary()));
    let (words, mut found) = (shell_words(line), Vec::new());
    for (at, word) in words.iter().enumerate() {
        let Some(task) = program(word) else { continue };
        // `--bin run_mlm -- ARGUMENTS`, and `--path bins/run_mlm`, which has none.
        let after_flag = at > 0 && words[at - 1].starts_with("--");
        let rest = words[at + 1..].iter().take_while(|word| !["|", "&", ";", "<", ">"].contains(&word.as_str()));
        let mut rest = rest.peekable();
        if after_flag && rest.next_if(|word| *word == "--").is_none() {
            continue;
        }
        found.push((task, rest.take_while(|word| program(word).is_none()).cloned().collect()));
    }
    found
}

#[test]
fn commands_in_the_pages_are_understood() {
    let (mut count, mut failures, root) = (0, Vec::new(), root());
    for (page, text) in pages() {
        for line in code_and_text(&text).0 {
            for (task, words) in commands(&line) {
                if words.iter().any(|word| word.contains('…')) || words.is_empty() {
                    let flags = words.iter().filter_map(|word| word.strip_prefix("--"));
                    flags.for_each(|name| assert!(flags_named(name), "{}: {line}: no --{name}", page.display()));
                    continue;
                }
                let words = words.into_iter().map(|word| match word.starts_with("configs/") {
                    true => root.join(word).display().to_string(),
                    false => word,
                });
                if let Err(error) = parse(task, words.map(OsString::from)) {
                    failures.push(format!("{}: {line}: {error}", page.display()));
                }
                count += 1;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count > 40, "{count} commands found");
}

fn flags_named(name: &str) -> bool {
    let name = name.split('=').next().unwrap_or_default();
    flags().any(|flag| flag.name == name)
}

#[test]
fn words_of_a_line_are_a_shells() {
    assert_eq!(shell_words("a 'b c'\"d\" '' e|f >g # h"), ["a", "b cd", "", "e", "|", "f", ">", "g"]);
    let found = commands(
        "X=1 cargo run --bin run_mlm -- --do_train && bin/run_clm --plan | jq; cargo install --path bins/run_plm",
    );
    let found: Vec<_> = found.iter().map(|(task, words)| (task.binary(), words.join(" "))).collect();
    assert_eq!(found, [("run_mlm", "--do_train".to_owned()), ("run_clm", "--plan".to_owned())]);
}

/// Where the links of a line lead.
fn links(line: &str) -> Vec<&str> {
    // What stands between backticks is no link.
    let text = line.split('`').step_by(2);
    text.flat_map(|part| part.split("](").skip(1).filter_map(|rest| rest.split(')').next())).collect()
}

/// The anchor of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let letters = heading.trim().chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    letters.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
}

#[test]
fn links_lead_somewhere() {
    let root = root();
    let docs = root.join("docs");
    for (page, text) in pages() {
        let folder = root.join(page.parent().expect("a folder"));
        for line in code_and_text(&text).1 {
            for link in links(line).into_iter().filter(|link| !link.contains("://")) {
                let (file, part) = link.split_once('#').unwrap_or((link, ""));
                let target = if file.is_empty() { root.join(&page) } else { folder.join(file) };
                let target =
                    target.canonicalize().unwrap_or_else(|_| panic!("{}: {link} leads nowhere", page.display()));
                assert!(
                    !page.starts_with("docs") || target.starts_with(&docs),
                    "{}: {link} leads out of the site",
                    page.display()
                );
                let there = || {
                    let text = fs::read_to_string(&target).expect("a page");
                    let text = code_and_text(&text).1;
                    let mut headings = text.iter().filter_map(|line| line.strip_prefix('#'));
                    headings.any(|heading| anchor(heading.trim_start_matches('#')) == part)
                };
                assert!(part.is_empty() || there(), "{}: no heading for {link}", page.display());
            }
        }
    }
}

#[test]
fn every_page_is_in_the_contents() {
    let contents = fs::read_to_string(root().join("docs/SUMMARY.md")).expect("the contents");
    let mut listed: Vec<&str> = contents.lines().flat_map(links).collect();
    listed.sort_unstable();
    let below = |(page, _): &(PathBuf, String)| page.strip_prefix("docs").ok().map(|page| page.display().to_string());
    let pages: Vec<String> = pages().iter().filter_map(below).filter(|page| page != "SUMMARY.md").collect();
    let mut pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    pages.sort_unstable();
    assert_eq!(listed, pages);
}
