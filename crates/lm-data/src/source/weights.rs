//! Weights of corpora that are mixed: `a.txt:0.7,b.txt:0.3`.

use std::path::Path;

use super::SourceError;

/// Names and patterns of files with the weights that follow them after a colon. Without any weight the names are as they were
/// given; a name that exists has none.
///
/// # Errors
/// If some have a weight and others none, or a weight is not above 0.
pub fn weighted(names: &[String]) -> Result<(Vec<String>, Vec<f64>), SourceError> {
    let exists = |name: &str| Path::new(name).exists();
    let parts = names.iter().flat_map(|name| match exists(name) {
        true => vec![name.as_str()],
        false => name.split(',').map(str::trim).filter(|part| !part.is_empty()).collect(),
    });
    let parse = |part: &str| {
        let (name, weight) = if exists(part) { None } else { part.rsplit_once(':') }?;
        Some((name.to_owned(), weight.parse::<f64>().ok()?))
    };
    let parts: Vec<(&str, Option<(String, f64)>)> = parts.map(|part| (part, parse(part))).collect();
    if parts.iter().all(|(_, weighted)| weighted.is_none()) {
        return Ok((names.to_vec(), Vec::new()));
    }
    let mut mixed = (Vec::new(), Vec::new());
    for (part, weighted) in parts {
        let Some((name, weight)) = weighted else {
            return Err(SourceError::Weight(
                part.into(),
                "has no weight, and others have; give each one, such as 0.5 in a.txt:0.5",
            ));
        };
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(SourceError::Weight(part.into(), "a weight must be a number above 0"));
        }
        mixed.0.push(name);
        mixed.1.push(weight);
    }
    Ok(mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_follow_names() {
        let folder = tempfile::tempdir().unwrap();
        let literal = folder.path().join("c.txt:2").display().to_string();
        std::fs::write(&literal, "a\n").unwrap();
        let split = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            weighted(&names).map_err(|error| error.to_string())
        };
        let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(split(&["a.txt:0.7,b*.txt:0.3"]), Ok((owned(&["a.txt", "b*.txt"]), vec![0.7, 0.3])));
        assert_eq!(split(&["a.txt:7", "b.txt:3"]), Ok((owned(&["a.txt", "b.txt"]), vec![7.0, 3.0])));
        assert_eq!(split(&["a.txt,b.txt"]), Ok((owned(&["a.txt,b.txt"]), vec![])));
        assert_eq!(split(&["C:\\a.txt"]), Ok((owned(&["C:\\a.txt"]), vec![])));
        assert_eq!(split(&[&literal]), Ok((vec![literal.clone()], vec![])), "a name that exists");
        assert!(split(&["a.txt:1,b.txt"]).unwrap_err().starts_with("b.txt: has no weight"));
        for weight in ["0", "-1", "inf", "nan"] {
            assert!(split(&[&format!("a.txt:{weight}")]).unwrap_err().contains("above 0"), "{weight}");
        }
    }
}
