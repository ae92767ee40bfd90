//! Hugging Face language models as Burn modules.
