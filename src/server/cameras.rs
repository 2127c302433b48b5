//! `/api/v1/cameras`: cameras added, changed, paused and removed while the server runs.
//!
//! What is said of a camera never has its secrets. What is changed of a camera of the configuration file or of the command
//! line lasts until its entry there changes or the server starts again, and the answer says so.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::App;
use super::body;
use super::error::ApiError;
use crate::pipeline::{CameraConfig, CameraReport, Origin, PipelineError, check_name, hide_secrets};

/// Stands in what is shown where a secret stood.
const HIDDEN: &str = "***";

pub(super) type Fields = Map<String, Value>;

/// A camera in an answer.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    report: CameraReport,
    /// Whether it is there again after a restart because it is kept in the state directory.
    persisted: bool,
    /// What the person who changed it should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Debug, Serialize)]
struct List {
    cameras: Vec<Shown>,
    /// Whether `persist` is possible.
    can_persist: bool,
}

impl App {
    fn shown(&self, report: CameraReport, note: Option<String>) -> Shown {
        let persisted = report.origin == Origin::Api && self.kept.has(&report.name);
        Shown { report, persisted, note }
    }

    fn camera(&self, name: &str) -> Result<CameraReport, ApiError> {
        self.pipeline.camera(name).ok_or_else(|| PipelineError::NoSuchCamera(name.to_owned()).into())
    }
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Response {
    let cameras: Vec<Shown> = app.pipeline.cameras().into_iter().map(|report| app.shown(report, None)).collect();
    Json(List { cameras, can_persist: app.kept.possible() }).into_response()
}

pub(super) async fn show(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let report = app.camera(&name)?;
    Ok(Json(app.shown(report, None)).into_response())
}

pub(super) async fn add(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let mut fields = fields(&body::json(request, "the camera").await?)?;
    let name = match fields.remove("name") {
        Some(Value::String(name)) => name,
        Some(_) => return Err(bad("name: a string is expected")),
        None => {
            return Err(bad("name is missing: the stream gets it, as in {\"name\": \"front\", \"url\": \"rtsp://…\"}"));
        }
    };
    check_name(&name)?;
    let persist = persist(&mut fields)?.unwrap_or(false);
    let config = config(fields)?;
    if persist && !app.kept.possible() {
        return Err(super::kept::Kept::impossible());
    }
    undisturbed(async move {
        let _edit = app.edits.lock().await;
        app.pipeline.add_camera(&name, config.clone())?;
        if persist && let Err(error) = app.kept.put(&name, config).await {
            // What was asked for cannot be had as a whole, so nothing of it is done.
            let _ = app.pipeline.remove_camera(&name);
            return Err(error);
        }
        let shown = app.shown(app.camera(&name)?, None);
        let mut response = (StatusCode::CREATED, Json(shown)).into_response();
        // A name that was taken has no letters that an address cannot have.
        if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/cameras/{name}")) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Ok(response)
    })
    .await
}

pub(super) async fn change(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let mut changes = fields(&body::json(request, "the changes").await?)?;
    let persist = persist(&mut changes)?;
    alter(app, name, changes, persist).await
}

/// Changes these fields of a camera. `persist`: whether that is kept; `None`: as the camera is.
pub(super) async fn alter(
    app: Arc<App>,
    name: String,
    mut changes: Fields,
    persist: Option<bool>,
) -> Result<Response, ApiError> {
    undisturbed(async move {
        let _edit = app.edits.lock().await;
        let report = app.camera(&name)?;
        let before = app.pipeline.camera_config(&name).ok_or_else(|| PipelineError::NoSuchCamera(name.clone()))?;
        if changes.remove("name").is_some_and(|new| new != *name) {
            return Err(bad("name: a camera keeps its name; remove it and add it under the new one"));
        }
        let config = changed(&before, changes)?;
        if persist == Some(true) {
            refuse_to_keep(&app, &report)?;
        }
        let ours = report.origin == Origin::Api;
        app.pipeline.change_camera(&name, config.clone())?;
        let keep = ours && persist.unwrap_or_else(|| app.kept.has(&name));
        let stored = if keep {
            app.kept.put(&name, config).await
        } else if ours {
            app.kept.remove(&name).await
        } else {
            Ok(())
        };
        if let Err(error) = stored {
            let _ = app.pipeline.change_camera(&name, before);
            return Err(error);
        }
        let note = until_restart(report.origin, "changed");
        Ok(Json(app.shown(app.camera(&name)?, note)).into_response())
    })
    .await
}

pub(super) async fn remove(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    undisturbed(async move {
        let _edit = app.edits.lock().await;
        let report = app.camera(&name)?;
        if report.origin == Origin::Api {
            app.kept.remove(&name).await?;
        }
        app.pipeline.remove_camera(&name)?;
        Ok(match until_restart(report.origin, "removed") {
            Some(note) => Json(json!({ "name": name, "note": note })).into_response(),
            None => StatusCode::NO_CONTENT.into_response(),
        })
    })
    .await
}

/// Does the whole of it, also when the client hangs up in the middle.
async fn undisturbed(
    work: impl Future<Output = Result<Response, ApiError>> + Send + 'static,
) -> Result<Response, ApiError> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| Err(ApiError::fault(format!("the camera could not be changed: {error}"))))
}

fn until_restart(origin: Origin, what: &str) -> Option<String> {
    let place = match origin {
        Origin::Config => "the configuration file, which stays as it is",
        Origin::Flag => "the command line or the environment",
        Origin::Api => return None,
    };
    Some(format!("{what} until the server starts again: this camera comes from {place}"))
}

fn refuse_to_keep(app: &App, report: &CameraReport) -> Result<(), ApiError> {
    let instead = match report.origin {
        Origin::Api if app.kept.possible() => return Ok(()),
        Origin::Api => return Err(super::kept::Kept::impossible()),
        Origin::Config => "the configuration file is never written: change its entry there",
        Origin::Flag => "it comes from the command line or the environment: change it there",
    };
    let message = format!("{instead}; without `persist` the change lasts until the server starts again");
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "not_persistable", message))
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad_camera", message)
}

fn fields(body: &[u8]) -> Result<Fields, ApiError> {
    // A map does not quote what it could not read.
    serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(format!(
            "the body is no JSON object of a camera (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

fn persist(fields: &mut Fields) -> Result<Option<bool>, ApiError> {
    match fields.remove("persist") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(persist)) => Ok(Some(persist)),
        Some(_) => Err(bad("persist: true or false is expected")),
    }
}

/// A camera's configuration with some fields changed; `null` sets one back to its default. An address as it was shown is
/// one that was not changed.
fn changed(before: &CameraConfig, changes: Fields) -> Result<CameraConfig, ApiError> {
    let shown = object(before)?;
    let mut whole = shown.clone();
    whole.insert("url".to_owned(), before.url.reveal().into());
    if let Some(address) = &before.detect_url {
        whole.insert("detect_url".to_owned(), address.reveal().into());
    }
    for (key, value) in changes {
        if matches!(key.as_str(), "url" | "detect_url") && shown.get(&key) == Some(&value) {
            continue;
        }
        whole.insert(key, value);
    }
    config_of(whole, before)
}

fn object(config: &CameraConfig) -> Result<Fields, ApiError> {
    match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(ApiError::fault("a camera could not be written as JSON")),
    }
}

fn config_of(fields: Fields, before: &CameraConfig) -> Result<CameraConfig, ApiError> {
    let detect = before.detect_url.as_ref();
    read(fields, |address| address == before.url.reveal() || detect.is_some_and(|known| address == known.reveal()))
}

fn config(fields: Fields) -> Result<CameraConfig, ApiError> {
    read(fields, |_| false)
}

fn read(mut fields: Fields, known: impl Fn(&str) -> bool) -> Result<CameraConfig, ApiError> {
    fields.retain(|_, value| !value.is_null());
    for key in ["url", "detect_url"] {
        // An address that was shown, changed in part, and sent back would have lost its password.
        let shown =
            fields.get(key).and_then(Value::as_str).filter(|address| address.contains(HIDDEN) && !known(address));
        if shown.is_some() {
            return Err(bad(format!(
                "{key} has *** where its secret was: write the whole address, or leave the key out to keep the one there is"
            )));
        }
    }
    // The first that is wrong is named, which the reader of the whole does not do.
    let config: CameraConfig = named(&fields)?;
    config.validate().map_err(bad)?;
    Ok(config)
}

/// Reads the fields, and says which one is wrong.
fn named(fields: &Fields) -> Result<CameraConfig, ApiError> {
    let whole = serde_json::from_value::<CameraConfig>(Value::Object(fields.clone()));
    let error = match whole {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    let url = json!("rtsp://camera/");
    let wrong = fields.iter().find(|(key, value)| {
        let alone = json!({ "url": url, key.as_str(): value });
        serde_json::from_value::<CameraConfig>(alone).is_err()
    });
    let message = hide_secrets(&error.to_string());
    Err(bad(match wrong {
        Some((key, _)) if !message.contains(key.as_str()) => format!("{}: {message}", hide_secrets(key)),
        _ => message,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(value: Value) -> Result<CameraConfig, ApiError> {
        let Value::Object(fields) = value else { panic!("an object") };
        config(fields)
    }

    fn change_of(before: &CameraConfig, value: Value) -> Result<CameraConfig, ApiError> {
        let Value::Object(fields) = value else { panic!("an object") };
        changed(before, fields)
    }

    #[test]
    fn what_is_wrong_is_named_and_a_secret_is_not() {
        for (value, hint) in [
            (json!({}), "url"),
            (json!({ "url": "u:s3cret@cam" }), "url: "),
            (json!({ "url": "https://u:s3cret@cam/" }), "https"),
            (json!({ "url": 5 }), "url: "),
            (json!({ "url": "rtsp://u:***@cam/" }), "***"),
            (json!({ "url": "rtsp://cam/", "transport": "rtsp://u:s3cret@cam/" }), "transport"),
            (json!({ "url": "rtsp://u:s3cret@cam/", "priority": "high" }), "priority"),
            (json!({ "url": "rtsp://u:s3cret@cam/", "priority": 0 }), "priority = 0"),
            (json!({ "url": "rtsp://u:s3cret@cam/", "fps": 3 }), "fps"),
            (json!({ "url": "rtsp://cam/", "rtsp://u:s3cret@cam/": 3 }), "rtsp://u:***@cam/"),
            (json!({ "url": "rtsp://cam/", "zone": [[0, 0, 0]] }), "zone"),
            (json!({ "url": "rtsp://cam/", "sampling": "sometimes" }), "sampling"),
            (json!({ "url": "rtsp://cam/", "sampling": { "mode": "motion", "threshold": 7 } }), "threshold = 7"),
            (json!({ "url": "rtsp://cam/", "regions": { "door": {} } }), "regions.door"),
            (json!({ "url": "rtsp://cam/", "masks": [[[0, 0]]] }), "masks"),
            (json!({ "url": "rtsp://cam/", "privacy": "smear" }), "privacy"),
            (json!({ "url": "rtsp://cam/", "model": "a", "cascade": [{ "model": "b" }] }), "model and cascade"),
        ] {
            let error = format!("{:?}", camera(value.clone()).unwrap_err());
            assert!(error.contains(hint) && !error.contains("s3cret"), "{value}: {error}");
        }
    }

    #[test]
    fn a_change_leaves_the_rest_and_null_is_the_default() {
        let before = camera(json!({
            "url": "rtsp://u:s3cret@cam/1", "detect_url": "rtsp://u:s3cret@cam/2", "priority": 3, "model": "face",
        }))
        .unwrap();
        let paused = change_of(&before, json!({ "enabled": false })).unwrap();
        assert_eq!(paused, CameraConfig { enabled: false, ..before.clone() });
        let less = change_of(&before, json!({ "detect_url": null, "priority": null, "model": null })).unwrap();
        assert_eq!((less.detect_url, less.priority, less.model), (None, 1, None));
        assert!(change_of(&before, json!({ "url": null })).is_err());
    }

    #[test]
    fn how_a_camera_is_looked_at_can_be_changed_and_set_back() {
        let before = camera(json!({ "url": "rtsp://cam/1" })).unwrap();
        let door = json!({ "door": { "line": [[0.5, 1], [0.5, 0]] } });
        let changed = change_of(&before, json!({ "sampling": "motion", "regions": door, "blur": ["face"] })).unwrap();
        let shown = object(&changed).unwrap();
        assert_eq!((&shown["sampling"]["mode"], &shown["blur"]), (&json!("motion"), &json!(["face"])));
        assert_eq!(shown["regions"]["door"]["line"], json!([[0.5, 1.0], [0.5, 0.0]]));
        // What is shown may be sent back.
        assert_eq!(change_of(&before, Value::Object(shown)).unwrap(), changed);
        let back = change_of(&changed, json!({ "sampling": null, "regions": null, "blur": null })).unwrap();
        assert_eq!(back, before);
    }

    #[test]
    fn an_address_as_it_was_shown_is_unchanged_and_half_of_one_is_refused() {
        let before = camera(json!({ "url": "rtsp://u:s3cret@cam/1" })).unwrap();
        assert_eq!(change_of(&before, json!({ "url": "rtsp://u:***@cam/1" })).unwrap(), before);
        // A password is never sent to another host than it was given for.
        let error = change_of(&before, json!({ "url": "rtsp://u:***@other/1" })).unwrap_err();
        assert!(format!("{error:?}").contains("whole address"));
        let new = change_of(&before, json!({ "url": "rtsp://u:n3w@cam/1" })).unwrap();
        assert_eq!(new.url.reveal(), "rtsp://u:n3w@cam/1");
    }
}
