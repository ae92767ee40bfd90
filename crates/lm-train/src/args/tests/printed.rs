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
