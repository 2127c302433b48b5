//! Execution providers: on what a session runs.

use std::fmt;
use std::path::Path;

use ort::ep::ExecutionProviderDispatch;
use serde::Deserialize;

use super::onnx::{Session, SessionOptions};
use crate::detect::DetectError;

/// On what the ONNX Runtime runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The processor, by the runtime's own kernels.
    #[default]
    Cpu,
    /// NVIDIA's GPUs, by CUDA and cuDNN.
    Cuda,
    /// NVIDIA's GPUs, by TensorRT; what it does not take runs on CUDA.
    Tensorrt,
    /// Intel's processors, by OpenVINO.
    Openvino,
}

impl Provider {
    /// All that can be asked for.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Cuda, Self::Tensorrt, Self::Openvino];

    /// Its name in the configuration, which is the cargo feature's too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Openvino => "openvino",
        }
    }

    /// Whether this build can ask for it.
    #[must_use]
    pub fn built_in(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Tensorrt => cfg!(feature = "tensorrt"),
            Self::Openvino => cfg!(feature = "openvino"),
        }
    }

    /// What has to be there for it.
    #[must_use]
    pub fn needs(self) -> &'static str {
        match self {
            Self::Cpu => "nothing but the ONNX Runtime",
            Self::Cuda => {
                "an NVIDIA GPU with its driver, CUDA and cuDNN in the loader's path, and the library of the PyPI wheel \
                 `onnxruntime-gpu`, whole folder, by `--onnxruntime`"
            }
            Self::Tensorrt => {
                "an NVIDIA GPU with its driver, CUDA, cuDNN and TensorRT in the loader's path, and the library of the PyPI \
                 wheel `onnxruntime-gpu`, whole folder, by `--onnxruntime`"
            }
            Self::Openvino => {
                "the library of the PyPI wheel `onnxruntime-openvino` (1.24.1), whole folder, by `--onnxruntime`, and that \
                 folder in LD_LIBRARY_PATH"
            }
        }
    }

    /// What a session is told; the first comes first.
    ///
    /// # Errors
    /// When this build has no such provider.
    pub(super) fn dispatch(self, threads: usize) -> Result<Vec<ExecutionProviderDispatch>, DetectError> {
        // Without `error_on_failure` the runtime takes the CPU, and says nothing.
        let providers = match self {
            Self::Cpu => Some(Vec::new()),
            Self::Cuda => cuda().map(|cuda| vec![cuda.error_on_failure()]),
            Self::Tensorrt => {
                tensorrt().map(|first| [first.error_on_failure()].into_iter().chain(cuda()).collect::<Vec<_>>())
            }
            Self::Openvino => openvino(threads).map(|openvino| vec![openvino.error_on_failure()]),
        };
        providers.ok_or_else(|| {
            self.refused(format!("this build does not have it: build with `cargo build --release --features {self}`"))
        })
    }

    pub(super) fn refused(self, reason: String) -> DetectError {
        DetectError::Provider { provider: self, reason }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "cuda")]
#[allow(clippy::unnecessary_wraps)] // without the feature there is none
fn cuda() -> Option<ExecutionProviderDispatch> {
    // The runtime would try every algorithm of every convolution at the first picture of each shape: a second without boxes at each
    // new size of a batch. The GPU is as quick with what cuDNN proposes. And it would round to TF32's 10 bits, by which boxes near the
    // threshold come and go; without, the detections are the CPU's (docs/performance.md).
    let search = ort::ep::cuda::ConvAlgorithmSearch::Heuristic;
    Some(ort::ep::CUDA::default().with_conv_algorithm_search(search).with_tf32(false).build())
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Option<ExecutionProviderDispatch> {
    None
}

#[cfg(feature = "tensorrt")]
#[allow(clippy::unnecessary_wraps)] // without the feature there is none
fn tensorrt() -> Option<ExecutionProviderDispatch> {
    Some(ort::ep::TensorRT::default().build())
}

#[cfg(not(feature = "tensorrt"))]
fn tensorrt() -> Option<ExecutionProviderDispatch> {
    None
}

#[cfg(feature = "openvino")]
#[allow(clippy::unnecessary_wraps)] // without the feature there is none
fn openvino(threads: usize) -> Option<ExecutionProviderDispatch> {
    Some(ort::ep::OpenVINO::default().with_device_type("CPU").with_num_threads(threads).build())
}

#[cfg(not(feature = "openvino"))]
fn openvino(_threads: usize) -> Option<ExecutionProviderDispatch> {
    None
}

/// An ONNX model, `y = relu(x)` for `f32[1,3,4,4]`: one node that every provider has.
const PROBE: &[u8] =
    b"\x08\x08:O\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x12\x05probeZ\x1b\x0a\x01x\x12\x16\x0a\x14\x08\x01\
    \x12\x10\x0a\x02\x08\x01\x0a\x02\x08\x03\x0a\x02\x08\x04\x0a\x02\x08\x04b\x1b\x0a\x01y\x12\x16\x0a\
    \x14\x08\x01\x12\x10\x0a\x02\x08\x01\x0a\x02\x08\x03\x0a\x02\x08\x04\x0a\x02\x08\x04B\x02\x10\x0d";

/// Runs a small network on `provider`, by the runtime at `library`.
///
/// # Errors
/// [`DetectError`] says what is missing.
pub fn try_provider(library: &Path, provider: Provider) -> Result<(), DetectError> {
    let options = SessionOptions { threads: 1, provider };
    let mut session = Session::from_bytes(library, PROBE, &options)?;
    let (right, _) = session.run(&[-2.0; 48], (4, 4), |outputs| {
        outputs.first().is_some_and(|output| output.data.len() == 48 && output.data.iter().all(|&value| value == 0.0))
    })?;
    if right { Ok(()) } else { Err(provider.refused("it runs, and gives wrong results".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::backend::find_library;

    #[test]
    fn the_cpu_is_always_there() {
        try_provider(&find_library(None), Provider::Cpu).unwrap();
    }

    #[test]
    fn a_provider_that_is_not_there_fails_loudly_and_says_what_to_install() {
        // The library of the set-up is the one for the CPU.
        for (provider, wheel) in [
            (Provider::Cuda, "onnxruntime-gpu"),
            (Provider::Tensorrt, "onnxruntime-gpu"),
            (Provider::Openvino, "onnxruntime-openvino"),
        ] {
            if std::env::var_os("SIGHTLINE_OPENVINO_LIB").is_some() {
                return println!("left out: another library is to be tried");
            }
            let error = try_provider(&find_library(None), provider).unwrap_err();
            assert!(matches!(error, DetectError::Provider { provider: p, .. } if p == provider), "{error}");
            let text = error.to_string();
            assert!(text.contains(wheel) && text.contains(provider.name()), "{text}");
            assert_eq!(text.contains("--features"), !provider.built_in(), "{text}");
        }
    }

    #[test]
    fn openvino_works_where_its_library_is() {
        let Some(library) = std::env::var_os("SIGHTLINE_OPENVINO_LIB") else {
            return println!("left out: SIGHTLINE_OPENVINO_LIB names no library");
        };
        let tried = try_provider(Path::new(&library), Provider::Openvino);
        if Provider::Openvino.built_in() {
            tried.unwrap();
        } else {
            assert!(tried.unwrap_err().to_string().contains("--features openvino"));
        }
    }
}
