//! Help and docs/arguments.md.

use std::path::Path;

use super::*;

#[test]
fn help_is_readable_on_60_80_and_100_columns() {
    for task in Task::ALL {
        for word in ["-h", "--help"] {
            let Ok(Parsed::Help { long }) = parse_words(*task, &["--max_steps", word]) else { panic!("{word}") };
            assert_eq!(long, word == "--help");
            for width in [60, 80, 100] {
                let text = help(*task, long, Some(width));
                assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
                assert!(text.contains("usage: ") && !text.contains('\u{1b}'));
            }
        }
        let text = help(*task, false, Some(80));
        let common =
            ["logging_steps", "overwrite_output_dir", "bf16", "load_best_model_at_end", "gradient_checkpointing"];
        assert!(common.iter().all(|name| text.contains(&format!("--{name}"))), "{text}");
        assert_eq!(text.contains("--sample_prompts"), *task == Task::Clm);
        let known = lm_models::models::known_model_types(Some(*task));
        assert!(known.split(", ").all(|model_type| text.contains(model_type)), "{text}");
        let text = help(*task, true, Some(80));
        for flag in flags().filter(|flag| flag.tasks.contains(task)) {
            assert!(text.contains(&format!("--{}", flag.name)), "{}", flag.name);
        }
        let Ok(Parsed::Text(text)) = parse_words(*task, &["--version"]) else { panic!() };
        assert!(text.starts_with(task.binary()));
    }
}

/// A page with the rows of a table that begin with `row` written anew.
fn with_rows(page: &str, row: &str, rows: &[String]) -> String {
    let is_row = |line: &&str| line.starts_with(row);
    let before = page.lines().take_while(|line| !is_row(line));
    let after = page.lines().skip_while(|line| !is_row(line)).skip_while(is_row);
    before.chain(rows.iter().map(String::as_str)).chain(after).map(|line| format!("{line}\n")).collect()
}

/// The tables of README.md and docs/models.md are the list of families. `UPDATE_DOCS=1` writes them.
#[test]
fn tables_of_families_are_up_to_date() {
    let of_task = |task: Task| lm_models::models::FAMILIES.iter().filter(move |family| family.task == task);
    let by_program = Task::ALL.iter().map(|task| {
        let names: Vec<String> = of_task(*task).map(|family| format!("`{}`", family.model_type)).collect();
        let noun = task.noun().replace("language", "language modelling");
        format!("| `{}` | {noun} | {} |", task.binary(), names.join(", "))
    });
    let by_family = Task::ALL
        .iter()
        .copied()
        .flat_map(of_task)
        .map(|family| format!("| `{}` | `{}` | `{}` |", family.model_type, family.task.binary(), family.class));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (name, row, rows) in
        [("README.md", "| `run_", by_program.collect::<Vec<_>>()), ("docs/models.md", "| `", by_family.collect())]
    {
        let found = std::fs::read_to_string(root.join(name)).unwrap();
        let page = with_rows(&found, row, &rows);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(root.join(name), &page).unwrap();
            continue;
        }
        let advice = "UPDATE_DOCS=1 cargo test --release -p lm-train tables_of_families";
        assert!(found == page, "{name} has another table of families than the list ({advice}):\n{}", rows.join("\n"));
    }
}

/// `docs/arguments.md` says what the tables say. `UPDATE_DOCS=1` writes it.
#[test]
fn arguments_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/arguments.md");
    let page = page::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/arguments.md is not what the tables say: UPDATE_DOCS=1 cargo test -p lm-train arguments_page"
    );
}
