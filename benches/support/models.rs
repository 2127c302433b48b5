//! The models of the benchmarks that need trained ones: from the shared media (`SIGHTLINE_SHARED`, else `../shared`) and from
//! `.sightline/models` (or `SIGHTLINE_MODELS`).

use std::path::PathBuf;

use sightline::detect::{Config, Model};

/// Where a model's file is.
#[derive(Clone, Copy)]
pub enum Place {
    /// In the shared media, by the name of a manifest.
    Shared(&'static str),
    /// In the shared media, by its file below their models.
    File(&'static str),
    /// Pulled.
    Pulled(&'static str),
}

fn path(variable: &str, otherwise: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os(variable).map_or_else(|| root.join(otherwise), PathBuf::from)
}

/// `config` with the model of `place`.
pub fn config(place: Place, config: &Config) -> Config {
    let media = path("SIGHTLINE_SHARED", "../shared").join("media/models");
    let pulled = path("SIGHTLINE_MODELS", ".sightline/models");
    let (model, models_dir) = match place {
        Place::Shared(name) => (name.to_owned(), media),
        Place::Pulled(name) => (name.to_owned(), pulled),
        Place::File(file) => (media.join(file).display().to_string(), pulled),
    };
    Config { model, models_dir, ..config.clone() }
}

/// The model that a configuration names; one that is not there is left out with a line.
pub fn load(config: &Config) -> Option<Model> {
    Model::load(config).inspect_err(|error| println!("left out: {error}")).ok()
}
