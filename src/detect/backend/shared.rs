//! Runs of one session on several threads at the same time, so that its weights are in memory once.
//!
//! The ONNX Runtime allows it (`OrtApi::Run`, and <https://onnxruntime.ai/docs/api/c/>: a session is thread-safe for `Run`), and
//! `ort` has no way to it: its `run` takes the session for itself. Weights shared between sessions (`with_initializer`,
//! `with_prepacked_weights`) would be the other way; it was not measured.

use std::ffi::{CString, c_char};
use std::ptr::{NonNull, null_mut};

use ort::AsPointer;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::DynValue;

/// The names of the outputs, as the runtime takes them.
#[derive(Debug)]
pub(super) struct Names(Vec<CString>);

impl Names {
    /// Those of `session`.
    ///
    /// # Errors
    /// When one holds a zero, which no model that loads has.
    pub fn of(session: &Session) -> Result<Self, String> {
        let names = session.outputs().iter().map(|output| CString::new(output.name()));
        names.collect::<Result<_, _>>().map(Self).map_err(|error| error.to_string())
    }
}

/// Runs `session` and gives its outputs, in the order of `names`. Any number of threads may do so at the same time.
///
/// # Errors
/// What the runtime says.
pub(super) fn run(
    session: &Session,
    names: &Names,
    inputs: &[(&str, SessionInputValue<'_>)],
    options: &RunOptions,
) -> Result<Vec<DynValue>, String> {
    let text = |error: ort::Error| error.to_string();
    let named: Vec<_> = inputs
        .iter()
        .map(|(name, _)| CString::new(*name))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let input_names: Vec<*const c_char> = named.iter().map(|name| name.as_ptr()).collect();
    let values: Vec<_> = inputs.iter().map(|(_, value)| value.ptr()).collect();
    let output_names: Vec<*const c_char> = names.0.iter().map(|name| name.as_ptr()).collect();
    let mut outputs = vec![null_mut(); output_names.len()];
    // SAFETY: `Run` may be called by several threads at once on one session, which it does not change; that is what the
    // runtime's documentation says of it, whatever the pointer's type. All pointers are to what lives to the end of this
    // function, the lists are as long as is said, and the outputs are null, so that the runtime makes them.
    let status = unsafe {
        (ort::api().Run)(
            session.ptr().cast_mut(),
            options.ptr(),
            input_names.as_ptr(),
            values.as_ptr(),
            values.len(),
            output_names.as_ptr(),
            output_names.len(),
            outputs.as_mut_ptr(),
        )
    };
    // SAFETY: the status is the one that the call gave, and nobody else owns it.
    unsafe { ort::Error::result_from_status(status) }.map_err(text)?;
    let own = |output| {
        let output = NonNull::new(output).ok_or("the runtime gave no output")?;
        // SAFETY: the runtime made the value for this call, by the session's allocator, and nobody else owns it.
        Ok(unsafe { DynValue::from_ptr(output, Some(session.allocator())) })
    };
    outputs.into_iter().map(own).collect()
}
