//! Block devices (`block/`): disks, their major numbers, and requests that are under way.

mod disk;
mod in_flight;
mod major;

pub use disk::{Disk, Disks};
pub use in_flight::{InFlight, in_flight};
pub use major::{BlockMajor, majors};
