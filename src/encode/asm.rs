//! Whether the codec was built with its assembly.

use std::ffi::c_int;
use std::ptr::null_mut;

// The codec's own CPU detection is in its static library, which this crate brings into the link.
use openh264_sys2 as _;

unsafe extern "C" {
    /// `codec/common/inc/cpu.h` of openh264: the features of this CPU that the compiled code can use. Built without
    /// assembly it is a function that returns 0.
    fn WelsCPUFeatureDetect(logical_processors: *mut c_int) -> u32;
}

/// Whether openh264 runs its assembly here. Without `nasm` on an x86 build machine its build silently leaves it out, and
/// coding takes 2.6 to 2.8 times as long.
///
/// This asks the very function by which the codec chooses its routines at run time, so that it can only say what is.
#[must_use]
pub fn has_assembly() -> bool {
    // SAFETY: the function reads CPU registers or /proc/cpuinfo, and writes through the pointer only if it is not null.
    unsafe { WelsCPUFeatureDetect(null_mut()) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_agrees_with_the_machine_that_built_it() {
        // The build script of the codec runs `nasm` from the same PATH in the same way. Elsewhere than on x86 the
        // assembly needs no extra tool.
        let x86 = cfg!(any(target_arch = "x86", target_arch = "x86_64"));
        let built = std::process::Command::new("nasm").arg("-v").output().is_ok_and(|output| output.status.success());
        if !x86 {
            println!("skipped: only x86 needs nasm");
        } else if built && std::env::var_os("OPENH264_NO_ASM").is_none() {
            assert!(has_assembly(), "nasm is here, and yet the codec has no assembly: it was built before nasm came");
        }
    }
}
