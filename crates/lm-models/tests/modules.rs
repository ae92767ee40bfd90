//! Arrows between modules point down: no circle between the files of a crate, and in `lm-models` none from the parts of
//! models up to the models. `cargo test --release -p lm-models --test modules -- --nocapture` prints who imports whom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The path of a module from the crate's root, which is the empty one.
type Module = Vec<String>;

/// What matters of a file: the names it makes public from elsewhere, and all paths that stand in it.
#[derive(Default)]
struct Source {
    /// Name → path, of `use` and `pub use`.
    imports: BTreeMap<String, Vec<String>>,
    /// Names of `pub use`, which pass on and do not use.
    passed_on: BTreeSet<String>,
    /// Paths in the code, each from its first segment on.
    paths: BTreeSet<Vec<String>>,
}

struct Crate {
    sources: BTreeMap<Module, Source>,
}

impl Crate {
    fn read(name: &str) -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let (mut files, mut tests) = (BTreeMap::new(), BTreeSet::new());
        for path in rust_files(&src) {
            let module = module_of(path.strip_prefix(&src).expect("a file of this folder"));
            let text = std::fs::read_to_string(&path).expect("a source file");
            let code = without_tests(&without_comments_and_strings(&text), &module, &mut tests);
            files.insert(module, code);
        }
        files.retain(|module, _| !tests.iter().any(|test: &Module| module.starts_with(test)));
        Self { sources: files.into_iter().map(|(module, code)| (module, Source::parse(&code))).collect() }
    }

    /// The modules that `module` imports from, without those that it only passes on.
    fn imports_of(&self, module: &Module) -> BTreeSet<Module> {
        let source = &self.sources[module];
        let used = source.imports.iter().filter(|(name, _)| !source.passed_on.contains(*name)).map(|(_, path)| path);
        let mut found: BTreeSet<Module> =
            used.chain(&source.paths).filter_map(|path| self.resolve(module, path, 0)).collect();
        found.remove(module);
        found
    }

    /// The module in which `path`, as written in `module`, is defined; none for what another crate defines.
    fn resolve(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        let mut rest = path;
        let mut at = match rest.first()?.as_str() {
            "crate" => Module::new(),
            "self" | "super" => module.clone(),
            first => {
                let child: Module = module.iter().cloned().chain([first.to_owned()]).collect();
                let import = self.sources[module].imports.get(first);
                if self.sources.contains_key(&child) {
                    module.clone()
                } else if let Some(import) = import.filter(|import| depth < 8 && import[0] != first) {
                    let whole: Vec<String> = import.iter().chain(&rest[1..]).cloned().collect();
                    return self.resolve(module, &whole, depth + 1);
                } else {
                    return None;
                }
            }
        };
        while let Some(first) = rest.first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                name => {
                    let child: Module = at.iter().cloned().chain([name.to_owned()]).collect();
                    if !self.sources.contains_key(&child) {
                        break;
                    }
                    at = child;
                }
            }
            rest = &rest[1..];
        }
        // The root only passes on; a name from there or from another module is followed to its definition.
        let import = rest.first().and_then(|name| self.sources.get(&at)?.imports.get(name));
        match import.filter(|_| depth < 8) {
            Some(import) => {
                let whole: Vec<String> = import.iter().chain(&rest[1..]).cloned().collect();
                self.resolve(&at, &whole, depth + 1)
            }
            None => Some(at),
        }
    }

    /// Module → the modules it imports from.
    fn graph(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        self.sources.keys().map(|module| (module.clone(), self.imports_of(module))).collect()
    }
}

impl Source {
    fn parse(code: &str) -> Self {
        let mut source = Self::default();
        let mut rest = code;
        let mut body = String::new();
        while let Some(at) = find_word(rest, "use") {
            let end = rest[at..].find(';').map_or(rest.len(), |end| at + end);
            let before = rest[..at].trim_end();
            let public = before.ends_with("pub")
                || before.ends_with(')')
                    && before.rfind("pub(").is_some_and(|open| !before[open..].contains(['{', ';']));
            let mut leaves = Vec::new();
            expand(rest[at + 3..end].trim(), &mut Vec::new(), &mut leaves);
            for (name, path) in leaves {
                if public {
                    source.passed_on.insert(name.clone());
                }
                if name == "*" {
                    source.paths.insert(path);
                } else {
                    source.imports.insert(name, path);
                }
            }
            body.push_str(&rest[..at]);
            rest = &rest[end..];
        }
        body.push_str(rest);
        source.paths.extend(paths_in(&body));
        source
    }
}

/// The leaves of a tree of `use`: what a name stands for.
fn expand(tree: &str, prefix: &mut Vec<String>, leaves: &mut Vec<(String, Vec<String>)>) {
    let tree = tree.trim();
    if tree.is_empty() {
        return;
    }
    if let Some(inner) = tree.strip_prefix('{') {
        let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&inner[start..at], prefix, leaves);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    match tree.split_once("::") {
        Some((first, rest)) => {
            prefix.push(first.trim().to_owned());
            expand(rest, prefix, leaves);
            prefix.pop();
        }
        None => {
            let (name, alias) = tree.split_once(" as ").map_or((tree, tree), |(name, alias)| (name, alias.trim()));
            let mut path = prefix.clone();
            let last = prefix.last().cloned().unwrap_or_default();
            let alias = if name == "self" { last } else { alias.to_owned() };
            if name != "self" && name != "*" {
                path.push(name.trim().to_owned());
            }
            leaves.push((alias, path));
        }
    }
}

/// Paths of two segments or more.
fn paths_in(code: &str) -> BTreeSet<Vec<String>> {
    let mut paths = BTreeSet::new();
    let mut at = 0;
    let bytes = code.as_bytes();
    while at < bytes.len() {
        let start = at;
        while at < bytes.len()
            && (is_word(bytes[at]) || code[at..].starts_with("::") || at > start && code[at - 1..].starts_with("::"))
        {
            at += 1;
        }
        let path: Vec<String> =
            code[start..at].split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if path.len() > 1 && !code[start..at].starts_with("::") {
            paths.insert(path);
        }
        at += usize::from(at == start);
        while at < bytes.len() && !code.is_char_boundary(at) {
            at += 1;
        }
    }
    paths
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn find_word(code: &str, word: &str) -> Option<usize> {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).find(|&at| {
        (at == 0 || !is_word(bytes[at - 1])) && bytes.get(at + word.len()).is_some_and(|&next| next == b' ')
    })
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("an entry").path());
    let files = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

fn module_of(file: &Path) -> Module {
    let parts = file.with_extension("");
    let mut module: Module = parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| ["mod", "lib"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// The code with blanks for comments and for what stands between quotes.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|after| after.len() - after.trim_start_matches('#').len());
        let raw =
            raw.filter(|&hashes| rest[1 + hashes..].starts_with('"') && !code.ends_with(|c: char| is_word(c as u8)));
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(hashes) = raw {
            let end = format!("\"{}", "#".repeat(hashes));
            rest[2 + hashes..].find(&end).map_or(rest.len(), |at| 2 + hashes + at + end.len())
        } else if first == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |at| at + 2)
        } else if rest.starts_with("'\\") {
            3 + rest[3..].find('\'').map_or(0, |at| at + 1)
        } else if first == '\'' && rest[1..].chars().nth(1) == Some('\'') {
            2 + rest[1..].chars().next().map_or(0, char::len_utf8)
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[length..];
    }
    code
}

/// The code without `#[cfg(test)]` modules; those that are files of their own go to `tests`.
fn without_tests(code: &str, module: &Module, tests: &mut BTreeSet<Module>) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(") {
        let attribute = rest[at..].find(']').map_or(rest.len(), |end| at + end + 1);
        let is_test = find_test(&rest[at..attribute]);
        kept.push_str(&rest[..at]);
        rest = &rest[attribute..];
        let item = rest.trim_start();
        let item = item.strip_prefix("pub(crate) ").or(item.strip_prefix("pub ")).unwrap_or(item);
        let Some(name) = item.trim_start_matches("pub(super) ").strip_prefix("mod ").filter(|_| is_test) else {
            continue;
        };
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        if name[end..].trim_start().starts_with(';') {
            tests.insert(module.iter().cloned().chain([name[..end].to_owned()]).collect());
        }
        let mut depth = 0;
        let close = name.find(|c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0 && (c == '}' || c == ';')
        });
        rest = &name[close.map_or(name.len(), |at| at + 1)..];
    }
    kept + rest
}

fn find_test(attribute: &str) -> bool {
    attribute.contains("(test)") || attribute.contains("(test,") || attribute.contains(" test,")
}

/// Groups of modules that import each other in a circle.
fn circles(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Vec<&Module>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        graph.keys().map(|from| (from, reachable(graph, from))).collect();
    let mut seen = BTreeSet::new();
    let mut groups = Vec::new();
    for module in graph.keys().filter(|module| reached[module].contains(module)) {
        if seen.contains(module) {
            continue;
        }
        let group: Vec<_> =
            graph.keys().filter(|other| reached[module].contains(other) && reached[other].contains(module)).collect();
        seen.extend(group.iter().copied());
        groups.push(group);
    }
    groups
}

fn reachable<'a>(graph: &'a BTreeMap<Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Module> = graph[from].iter().collect();
    while let Some(module) = open.pop() {
        if found.insert(module) {
            open.extend(&graph[module]);
        }
    }
    found
}

fn name(module: &Module) -> String {
    if module.is_empty() { "(root)".to_owned() } else { module.join("::") }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut faults = Vec::new();
    for crate_name in ["lm-files", "lm-hub", "lm-data", "lm-models", "lm-train"] {
        let graph = Crate::read(crate_name).graph();
        assert!(graph.len() > 2 && graph.values().any(|imports| !imports.is_empty()), "{crate_name}: nothing was read");
        println!("{crate_name}");
        for (module, imports) in &graph {
            println!("  {} -> {}", name(module), imports.iter().map(name).collect::<Vec<_>>().join(", "));
        }
        for circle in circles(&graph) {
            // A row of a table of arguments says where its value lies in all arguments, which hold the table's own.
            let is_table = crate_name == "lm-train" && circle.iter().all(|module| module[0] == "args");
            if !is_table {
                faults.push(format!("{crate_name}: {}", circle.into_iter().map(name).collect::<Vec<_>>().join(", ")));
            }
        }
    }
    assert!(faults.is_empty(), "files that import each other:\n{}", faults.join("\n"));
}

#[test]
fn nothing_below_imports_a_model() {
    for (module, imports) in Crate::read("lm-models").graph() {
        let below = module.first().is_some_and(|first| ["blocks", "ops", "model"].contains(&first.as_str()));
        let above: Vec<_> =
            imports.iter().filter(|import| import.first().is_some_and(|first| first == "models")).collect();
        assert!(!below || above.is_empty(), "{} imports {above:?}", name(&module));
    }
}

/// The folders of `lm-train` from the lowest to the highest, as the page of the crate has them.
#[test]
fn the_folders_of_lm_train_import_from_those_below() {
    const UPWARDS: [&str; 11] =
        ["sys", "dist", "schedule", "optim", "args", "device", "observe", "checkpoint", "train", "run", "cli"];
    let height = |module: &Module| {
        let folder = module.first()?;
        Some(UPWARDS.iter().position(|name| name == folder).unwrap_or_else(|| panic!("{folder} has no place")))
    };
    let graph = Crate::read("lm-train").graph();
    assert!(graph.len() > UPWARDS.len());
    for (module, imports) in &graph {
        let above: Vec<_> = imports.iter().filter(|import| height(import) > height(module)).map(name).collect();
        assert!(height(module).is_none() || above.is_empty(), "{} imports {}", name(module), above.join(", "));
    }
}
