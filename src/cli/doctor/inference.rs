//! On what models can run: the execution providers, and the server.

use std::path::Path;

use sightline::detect::backend::{Provider, try_provider};
use sightline::detect::{self, Model, RemoteStatus};

use super::{Check, Status};

/// Tries every execution provider with a small network: those that this build has, on this machine.
pub(super) fn providers(config: &detect::Config, library: &Path) -> Check {
    const NAME: &str = "providers";
    let wanted = config.provider;
    let mut fix = None;
    let tried: Vec<_> = Provider::ALL
        .into_iter()
        .map(|provider| {
            if !provider.built_in() {
                if provider == wanted {
                    fix = Some(format!("build with `--features {provider}`; it needs {}", provider.needs()));
                }
                return format!("{provider} is not built in");
            }
            match try_provider(library, provider) {
                Ok(()) => format!("{provider} works"),
                Err(error) => {
                    if provider == wanted {
                        fix = Some(error.to_string());
                    }
                    format!("{provider} does not work here")
                }
            }
        })
        .collect();
    let detail = format!("{}; {wanted} is configured", tried.join(", "));
    match fix {
        Some(fix) => Check::failed(NAME, detail).fix(fix),
        None => Check::ok(NAME, detail),
    }
}

/// How the configured server is doing, if there is one.
pub(super) fn remote(config: &detect::Config, model: Option<&Model>) -> Option<Check> {
    const NAME: &str = "remote";
    let address = config.remote.as_ref()?;
    // Without a model here its absence has failed the model's check.
    let Some(status) = model.and_then(Model::remote_status) else {
        return Some(Check::failed(NAME, format!("{address} does not look: see the model")));
    };
    let RemoteStatus { model, up, reason, local, .. } = status;
    if !up {
        let reason = reason.unwrap_or_default();
        let check = Check::new(NAME, Status::Warning, format!("{address} is away: {reason}"));
        return Some(
            check.fix("until it comes the model here looks; start the server, or mend the address in [detect] remote"),
        );
    }
    let check = Check::ok(NAME, format!("{address} looks, by its model `{model}`"));
    if local {
        return Some(check);
    }
    let check = Check { status: Status::Warning, ..check };
    Some(check.fix("there is no model here that could stand in for it: name one by `model`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sightline::detect::backend::find_library;

    #[test]
    fn the_providers_are_tried_and_the_configured_one_has_to_work() {
        let library = find_library(None);
        let check = providers(&detect::Config::default(), &library);
        assert_eq!(check.status, Status::Ok, "{check:?}");
        assert!(check.detail.starts_with("cpu works, cuda"), "{}", check.detail);
        let config = detect::Config { provider: Provider::Cuda, ..detect::Config::default() };
        let check = providers(&config, &library);
        assert_eq!(check.status, Status::Failed, "the set-up's library is the one for the CPU");
        assert!(check.fix.unwrap().contains("onnxruntime-gpu"));
    }

    #[test]
    fn a_server_that_did_not_answer_is_named() {
        assert!(remote(&detect::Config::default(), None).is_none());
        let config = detect::Config { remote: Some("grpc://10.0.0.7:8001".into()), ..detect::Config::default() };
        let check = remote(&config, None).unwrap();
        assert_eq!(check.status, Status::Failed);
        assert!(check.detail.contains("grpc://10.0.0.7:8001"));
    }
}
