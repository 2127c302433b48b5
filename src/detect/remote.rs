//! A model that a server runs, with the same model here for while that one is away.
//!
//! Every picture goes to the server while it is there. The first that fails is looked at here at once, and so are all that
//! follow, until the server was seen again: no stream loses a frame, and none waits for a server twice. Several go in one request
//! where `batch` allows it and the model there takes them. Belongs here: this
//! choice, and what is known about the server's model. Does not belong here: the protocol (`backend/remote`).

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::backend::{Remote, RemoteCounts, RemoteOptions};
use super::lane::lock;
use super::load::{describe, rehearse, rehearse_together};
use super::loaded::Loaded;
use super::locate::{is_path, locate};
use super::model::{Model, ModelInfo};
use super::network::{NetworkDetector, Reading};
use super::{Config, DetectError, Detector, Found, InputSize, InputSpec, Picture, Settings, Stopper};

/// How a server that runs a model is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RemoteStatus {
    /// `grpc://host:port` or `grpcs://host:port`.
    pub address: String,
    /// The model's name there.
    pub model: String,
    /// It is there, and pictures go to it.
    pub up: bool,
    /// Why it is not used, while it is not.
    pub reason: Option<String>,
    /// There is a model here for while it is away.
    pub local: bool,
    /// Runs that it answered.
    pub frames: u64,
    /// Runs that it failed.
    pub failures: u64,
    /// Second attempts, after a connection that broke.
    pub retries: u64,
    /// Pictures that the model here looked at in its place.
    pub fallbacks: u64,
}

/// What is known about the server's model once it was there.
struct Far {
    info: Arc<ModelInfo>,
    input: InputSpec,
    reading: Reading,
    /// By its metadata it takes several pictures at once.
    several: bool,
}

/// The model here.
struct Near {
    loaded: Loaded,
    /// How many more may look at the same time: the pool has a thread for every request, and this machine not a core for each.
    places: Mutex<usize>,
    left: Condvar,
}

/// What the detectors of the model share.
struct Shared {
    address: String,
    model: String,
    remote: Arc<Remote>,
    far: OnceLock<Far>,
    config: Config,
    near: Option<Near>,
    fallbacks: AtomicU64,
    /// The most pictures of a request.
    batch: Arc<AtomicUsize>,
}

/// Connects to the configured server, and loads the model here that stands in for it, if its file is there.
///
/// # Errors
/// [`DetectError::Remote`] when the server is away and there is no model here; [`DetectError::Unusable`] when the server's model
/// is none that can be used, or has other classes than the one here; those of the model here, but for its absence.
pub fn load(config: &Config) -> Result<Model, DetectError> {
    load_before(config, Model::load_here(config))
}

/// The same with the model here, or why there is none.
///
/// # Errors
/// The same.
pub fn load_before(config: &Config, here: Result<Model, DetectError>) -> Result<Model, DetectError> {
    let address = config.remote.clone().unwrap_or_default();
    let stem = || Path::new(&config.model).file_stem().filter(|_| is_path(&config.model));
    let name = || stem().map_or_else(|| config.model.clone(), |stem| stem.to_string_lossy().into_owned());
    let model = config.remote_model.clone().unwrap_or_else(name);
    let remote = Arc::new(Remote::connect(RemoteOptions {
        address: address.clone(),
        ca: config.remote_ca.clone(),
        model: model.clone(),
        timeout: Duration::from_millis(config.remote_timeout_ms),
        concurrency: config.remote_concurrency,
    })?);
    let (near, missing) = match here {
        Ok(near) => (Some(near), None),
        Err(error @ DetectError::Missing { .. }) => (None, Some(error)),
        Err(error) => return Err(error),
    };
    let near_info = near.as_ref().map(|near| near.info().clone());
    let near = near.map(|near| Near {
        loaded: Loaded::new(near),
        places: Mutex::new(config.local_workers()),
        left: Condvar::new(),
    });
    if let Some(near) = &near {
        near.loaded.stock(config.local_workers())?;
    }
    let shared = Arc::new(Shared {
        address,
        model,
        remote,
        far: OnceLock::new(),
        config: config.clone(),
        near,
        fallbacks: AtomicU64::new(0),
        batch: Arc::new(AtomicUsize::new(1)),
    });
    let info = match (shared.prove()?, near_info) {
        (Some(far), near) => near.unwrap_or_else(|| (*far).clone()),
        (None, Some(near)) => {
            let reason = shared.remote.reason().unwrap_or_default();
            tracing::warn!(
                address = shared.address,
                reason,
                "the remote detector is away: the model here looks until it comes"
            );
            near
        }
        (None, None) => {
            let reason = shared.remote.reason().unwrap_or_default();
            let local = missing.map(|error| error.to_string()).unwrap_or_default();
            return Err(DetectError::Remote {
                address: shared.address.clone(),
                reason: format!("{reason}; nor is there a model here that could stand in for it: {local}"),
            });
        }
    };
    let (status, batch) = (Arc::clone(&shared), Arc::clone(&shared.batch));
    let factory = move || Ok(Box::new(RemoteDetector::new(Arc::clone(&shared))) as Box<dyn Detector>);
    Ok(Model::new(info, false, factory).with_remote(move || status.status()).with_batch_of(batch))
}

impl Shared {
    /// Lets the server look at one grey picture. `None` while it is away.
    fn prove(&self) -> Result<Option<Arc<ModelInfo>>, DetectError> {
        let mut detector = match self.far_detector() {
            Ok(Some(detector)) => detector,
            Ok(None) => return Ok(None),
            Err(reason) => {
                return Err(DetectError::Unusable { model: format!("{} at {}", self.model, self.address), reason });
            }
        };
        let info = Arc::clone(&self.far.get().ok_or(DetectError::Frame("no model".into()))?.info);
        match rehearse(&mut detector, &info, self.config.load_limit()) {
            Ok(()) => {
                if self.batch.load(Ordering::Relaxed) > 1 && !rehearse_together(&mut detector) {
                    self.one_by_one();
                }
                Ok(Some(info))
            }
            // What the server refuses now it may take later; a model of the wrong kind was found out before.
            Err(_) if !self.remote.is_up() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A detector by the server; `None` until it was there once.
    ///
    /// # Errors
    /// Says why its model cannot be used.
    fn far_detector(&self) -> Result<Option<NetworkDetector>, String> {
        let Some(session) = self.remote.session() else { return Ok(None) };
        let far = if let Some(far) = self.far.get() {
            far
        } else {
            let far = self.describe(session.graph())?;
            if far.several {
                self.batch.store(self.config.most_together(), Ordering::Relaxed);
            }
            self.far.get_or_init(|| far)
        };
        let detector = NetworkDetector::new(Arc::clone(&far.info), far.input, far.reading, session);
        detector.map(Some).map_err(|error| error.to_string())
    }

    /// The model there says that it takes several pictures, and does not.
    fn one_by_one(&self) {
        self.batch.store(1, Ordering::Relaxed);
        tracing::info!(
            address = self.address,
            model = self.model,
            "the remote detector does not take several pictures at once"
        );
    }

    /// What the server's model is: by the manifest of its name, else by its graph. The protocol carries no class names: where
    /// there are as many as here, they are those.
    fn describe(&self, graph: &super::heads::Graph) -> Result<Far, String> {
        let manifest = locate(&self.model, &self.config.models_dir).ok().and_then(|located| located.manifest);
        let told = manifest.is_some();
        let described = describe(&self.model, Path::new(&self.model), manifest, graph);
        let (mut info, input, reading) = described.map_err(|error| error.to_string())?;
        if let Some(near) = &self.near {
            let labels = &near.loaded.model.info().labels;
            if !told && labels.len() == info.labels.len() {
                info.labels = Arc::clone(labels);
            } else if *labels != info.labels {
                return Err(format!(
                    "it finds {}, and the model here that stands in for it {}: both have to find the same, so that a stream \
                     does not notice; name another `model`, or a manifest for the server's",
                    listed(&info.labels),
                    listed(labels)
                ));
            }
        }
        let several = graph.takes_batches() && info.family.batch_first();
        Ok(Far { info: Arc::new(info), input, reading, several })
    }

    fn status(&self) -> RemoteStatus {
        let RemoteCounts { frames, retries, failures } = self.remote.counts();
        RemoteStatus {
            address: self.address.clone(),
            model: self.model.clone(),
            up: self.remote.is_up(),
            reason: self.remote.reason(),
            local: self.near.is_some(),
            frames,
            failures,
            retries,
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
        }
    }
}

/// The first few of the class names.
fn listed(labels: &[Arc<str>]) -> String {
    const SHOWN: usize = 3;
    let shown = labels.iter().take(SHOWN).map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
    if labels.len() > SHOWN { format!("{} classes ({shown}, …)", labels.len()) } else { shown }
}

/// A place at the model here; given back when dropped.
struct Place<'a>(&'a Near);

impl Near {
    fn enter(&self) -> Place<'_> {
        let free = self.left.wait_while(lock(&self.places), |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *lock(&self.0.places) += 1;
        self.0.left.notify_one();
    }
}

/// What ends a detector, whichever of the two is looking.
#[derive(Default)]
struct End {
    ended: bool,
    looking: Option<Stopper>,
}

/// Looks there, else here.
struct RemoteDetector {
    shared: Arc<Shared>,
    far: Option<NetworkDetector>,
    end: Arc<Mutex<End>>,
}

impl RemoteDetector {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, far: None, end: Arc::default() }
    }

    /// Lets `detector` look in a way that can be ended. Whether it was stands beside the results.
    fn look(
        end: &Mutex<End>,
        detector: &mut dyn Detector,
        together: bool,
        pictures: &[(Picture<'_>, &Settings)],
    ) -> (Vec<Result<Found, DetectError>>, bool) {
        let stopper = detector.stopper();
        {
            let mut end = lock(end);
            if end.ended {
                let ended = |_| Err(DetectError::Frame("it was ended".into()));
                return (pictures.iter().map(ended).collect(), true);
            }
            end.looking = stopper;
        }
        let found = if together {
            detector.detect_batch(pictures)
        } else {
            pictures.iter().map(|(picture, settings)| detector.detect(*picture, settings)).collect()
        };
        let mut end = lock(end);
        end.looking = None;
        (found, end.ended)
    }

    /// What the server finds; of those that it does not look at, why, where it was tried.
    fn there(&mut self, pictures: &[(Picture<'_>, &Settings)]) -> Vec<Result<Found, Option<String>>> {
        let none = |reason: Option<String>| pictures.iter().map(|_| Err(reason.clone())).collect();
        if !self.shared.remote.is_up() {
            return none(None);
        }
        if self.far.is_none() {
            match self.shared.far_detector() {
                Ok(far) => self.far = far,
                Err(reason) => {
                    // Found out only now, since the server was away at the start.
                    self.shared.remote.condemn(&reason);
                    return none(Some(reason));
                }
            }
        }
        let Some(far) = &mut self.far else { return none(Some("the remote detector was never there".to_owned())) };
        let several = pictures.len() > 1;
        let (found, _) = Self::look(&self.end, far, several, pictures);
        // Pictures of several sizes are no batch where the model takes any size.
        let joined = |found: &Result<Found, DetectError>| found.as_ref().is_ok_and(|found| found.shared_by > 1);
        let fixed = self.shared.far.get().is_some_and(|far| matches!(far.input.size, InputSize::Fixed { .. }));
        if several && fixed && found.iter().all(Result::is_ok) && !found.iter().any(joined) {
            self.shared.one_by_one();
        }
        found.into_iter().map(|found| found.map_err(|error| Some(error.to_string()))).collect()
    }

    fn here(&mut self, near: &Near, pictures: &[(Picture<'_>, &Settings)]) -> Vec<Result<Found, DetectError>> {
        let _place = near.enter();
        let mut detector = match near.loaded.take() {
            Ok(detector) => detector,
            Err(error) => {
                let reason = error.to_string();
                return pictures.iter().map(|_| Err(DetectError::Frame(reason.clone()))).collect();
            }
        };
        let together = pictures.len() > 1 && near.loaded.model.batch() >= pictures.len();
        let (found, ended) = Self::look(&self.end, &mut *detector, together, pictures);
        if ended {
            near.loaded.lost();
        } else {
            near.loaded.put_back(detector);
        }
        found
    }
}

impl Detector for RemoteDetector {
    fn detect(&mut self, picture: Picture<'_>, settings: &Settings) -> Result<Found, DetectError> {
        let found = self.detect_batch(&[(picture, settings)]).pop();
        found.unwrap_or_else(|| Err(DetectError::Frame("the detector gave no result".into())))
    }

    fn detect_batch(&mut self, pictures: &[(Picture<'_>, &Settings)]) -> Vec<Result<Found, DetectError>> {
        let shared = Arc::clone(&self.shared);
        let there = self.there(pictures);
        let left: Vec<_> =
            there.iter().zip(pictures).filter(|(found, _)| found.is_err()).map(|(_, picture)| *picture).collect();
        let mut here = match &shared.near {
            Some(near) if !left.is_empty() => self.here(near, &left),
            _ => Vec::new(),
        }
        .into_iter();
        let one = |found: Result<Found, Option<String>>| {
            let failed = match found {
                Ok(found) => return Ok(found),
                Err(failed) => failed,
            };
            let Some(found) = here.next() else {
                return Err(DetectError::Frame(failed.unwrap_or_else(|| {
                    let reason = shared.remote.reason().unwrap_or_default();
                    format!("the remote detector is away: {reason}")
                })));
            };
            let found = found?;
            shared.fallbacks.fetch_add(1, Ordering::Relaxed);
            if let Some(reason) = failed {
                // The picture is a good one, so that the fault is the server's, whatever it was.
                shared.remote.away(&reason);
            }
            Ok(found)
        };
        there.into_iter().map(one).collect()
    }

    fn stopper(&self) -> Option<Stopper> {
        let end = Arc::clone(&self.end);
        Some(Arc::new(move || {
            let mut end = lock(&end);
            end.ended = true;
            if let Some(stopper) = &end.looking {
                stopper();
            }
        }))
    }
}
