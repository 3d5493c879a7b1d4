//! What can be wrong with a device, and what to do about it.

use std::io;
use std::path::Path;

use ocelli_flow::SourceError;

/// Linux's numbers of the errors that drivers answer with and that [`io::ErrorKind`] does not tell apart.
const ENODEV: i32 = 19;
const ENOTTY: i32 = 25;
const EINVAL: i32 = 22;
const ENXIO: i32 = 6;

/// Drivers of camera sensors without an image processor in front: what they deliver is raw, and not plain V4L2.
const RAW_SENSORS: [&str; 4] = ["unicam", "rp1-cfe", "bcm2835-isp", "pispbe"];

/// `reason` as an error of `device`.
pub fn camera(device: &str, reason: impl Into<String>) -> SourceError {
    SourceError::Camera { device: device.to_owned(), reason: reason.into() }
}

/// An error of the system while doing `what`, with its cure where there is one.
pub fn system(device: &str, what: &str, error: &io::Error) -> SourceError {
    let reason = match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => format!("no such camera; {}", there_are(&cameras(Path::new("/dev")))),
        (io::ErrorKind::PermissionDenied, _) => {
            "access denied; join the group that may use cameras (sudo usermod -aG video $USER) and log in again".to_owned()
        }
        (io::ErrorKind::ResourceBusy, _) => "in use by another program; close that first (fuser -v shows which)".to_owned(),
        (_, Some(ENODEV | ENXIO)) => "the camera is gone; plug it in again".to_owned(),
        (_, Some(ENOTTY)) => format!("not a video device; {}", there_are(&cameras(Path::new("/dev")))),
        (io::ErrorKind::TimedOut, _) => {
            format!("{what}: nothing came; is the camera covered by another program, asleep or without signal?")
        }
        (_, Some(EINVAL)) => format!("{what}: the driver does not do this ({error})"),
        _ => format!("{what}: {error}"),
    };
    camera(device, reason)
}

/// A hint for devices that are cameras, but not for plain V4L2.
pub fn hint(driver: &str) -> &'static str {
    if RAW_SENSORS.iter().any(|raw| driver.contains(raw)) {
        "; this is a Raspberry Pi camera connector, which libcamera drives: run `libcamerify ocelli run …`"
    } else if driver.contains("tegra") {
        "; this is a Jetson camera connector, which is read through GStreamer (nvarguscamerasrc), not through V4L2"
    } else {
        ""
    }
}

/// The video devices in a folder, in natural order.
fn cameras(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("video"))
        .map(|entry| entry.path().to_string_lossy().into_owned())
        .collect();
    found.sort_by(|a, b| ocelli_pipeline::source::natural_order(a, b));
    found
}

fn there_are(cameras: &[String]) -> String {
    match cameras {
        [] => "there is none on this machine: plug one in".to_owned(),
        some => format!("there is {}", some.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_with_a_cure() {
        for (number, cure) in [(13, "usermod"), (16, "another program"), (19, "plug it in"), (25, "not a video device"), (5, "asking: ")] {
            let said = system("/dev/video9", "asking", &io::Error::from_raw_os_error(number)).to_string();
            assert!(said.starts_with("/dev/video9: ") && said.contains(cure), "{said}");
        }
    }

    #[test]
    fn sensors_without_processor_are_recognised() {
        assert!(hint("bcm2835-unicam").contains("libcamerify"));
        assert!(hint("tegra-video").contains("nvarguscamerasrc"));
        assert_eq!(hint("uvcvideo"), "");
    }

    #[test]
    fn devices_are_listed_in_order() {
        let folder = std::env::temp_dir().join(format!("ocelli-cameras-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["video10", "video2", "null"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let names: Vec<_> = cameras(&folder).iter().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names, ["video2", "video10"]);
    }
}
