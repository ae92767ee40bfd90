//! Which of a repository's files are a model's weights.

use std::collections::HashMap;
use std::path::Path;

use crate::cache::is_file_name;
use crate::error::plain;

/// Files of weights or their indices, in the order of preference; of these, only the first that exists is downloaded.
const WEIGHTS: [&str; 8] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "tf_model.h5.index.json",
    "flax_model.msgpack",
    "flax_model.msgpack.index.json",
];

/// The files that weights may begin with, the preferred first: those of [`WEIGHTS`] and the index of a TensorFlow 1
/// checkpoint, which may have any name and has data files beside it.
pub(crate) fn candidates<'a>(files: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let is_index = |name: &&str| {
        let stem = name.strip_suffix(".index").filter(|stem| !stem.contains('/'));
        stem.is_some_and(|stem| data(stem, files.clone()).next().is_some())
    };
    let mut checkpoints: Vec<&str> = files.clone().filter(is_index).collect();
    checkpoints.sort_unstable();
    let known = WEIGHTS.into_iter().filter(|known| files.clone().any(|file| file == *known));
    known.chain(checkpoints).map(str::to_owned).collect()
}

/// The data files of a TensorFlow 1 checkpoint.
fn data<'a>(stem: &str, files: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let prefix = format!("{stem}.data-");
    files.filter(move |file| file.starts_with(&prefix))
}

/// The files that the weights have beside this one of [`candidates`], which lies in `folder`: those that an index names, or
/// the data of a checkpoint, by how many its first says that there are.
pub(crate) fn parts<'a>(
    folder: &Path,
    weights: &str,
    files: impl Iterator<Item = &'a str>,
) -> Result<Vec<String>, String> {
    if let Some(stem) = weights.strip_suffix(".index") {
        let first = data(stem, files).next().ok_or_else(|| format!("{weights} has no data beside it"))?;
        let count = first.rsplit_once("-of-").and_then(|(_, count)| count.parse::<u32>().ok());
        // Their numbers have five digits.
        let count =
            count.filter(|count| (1..100_000).contains(count)).ok_or_else(|| format!("{first} has no count"))?;
        return Ok((0..count).map(|part| format!("{stem}.data-{part:05}-of-{count:05}")).collect());
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    if !weights.ends_with(".index.json") {
        return Ok(Vec::new());
    }
    let index: Index = lm_files::read_to_string(&folder.join(weights), lm_files::SMALL)
        .map_err(|error| format!("{weights}: {error}"))
        .and_then(|text| serde_json::from_str(&text).map_err(|error| format!("{weights} is no index: {error}")))?;
    let mut files: Vec<String> = index.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    match files.iter().find(|name| !is_file_name(name)) {
        Some(name) => Err(format!("{weights} names {}, which is no file beside it", plain(name))),
        None => Ok(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pytorch_comes_before_tensorflow_and_flax() {
        let candidates = |files: &[&str]| candidates(files.iter().copied());
        assert_eq!(candidates(&["tf_model.h5", "flax_model.msgpack", "pytorch_model.bin"])[0], "pytorch_model.bin");
        assert_eq!(candidates(&["flax_model.msgpack", "tf_model.h5"])[0], "tf_model.h5");
        let checkpoint =
            ["b.ckpt.index", "b.ckpt.data-00000-of-00002", "a.index", "d/c.index", "d/c.data-00000-of-00001"];
        assert_eq!(candidates(&checkpoint), ["b.ckpt.index"]);
        assert!(candidates(&["model.gguf", "rust_model.ot"]).is_empty());
    }

    #[test]
    fn a_checkpoint_has_as_many_data_files_as_their_names_say() {
        let parts = |file: &str| parts(Path::new("none"), "b.ckpt.index", [file].into_iter());
        let two = ["b.ckpt.data-00000-of-00002", "b.ckpt.data-00001-of-00002"].map(str::to_owned);
        assert_eq!(parts("b.ckpt.data-00001-of-00002"), Ok(two.to_vec()));
        for wrong in ["b.ckpt.data-00000-of-99999999", "b.ckpt.data-00000-of-00000", "b.ckpt.data-0", "other"] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }
}
