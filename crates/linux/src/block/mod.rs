//! Block devices (`block/`): disks, their major numbers, I/O that is under way and what holds it back, and the drivers
//! that stack disks on disks and files.

mod bio;
mod disk;
mod dm;
mod in_flight;
mod issuer;
mod loop_device;
mod major;
mod md;
mod queue;
mod request;

pub use bio::{Bio, Operation, chain};
pub use disk::{Disk, Disks, name_of};
pub use dm::{Mapped, MappedState, Multipath, Path, Target};
pub use in_flight::{InFlight, in_flight};
pub use issuer::{How, Issuers, Owner};
pub use loop_device::LoopDevice;
pub use major::{BlockMajor, majors};
pub use md::{Array, Member};
pub use queue::{HardwareQueue, Queue, Tags};
pub use request::{Io, Now, Pending, Requests, Stands};
