//! The network (`net/`): devices and their addresses, neighbours, sockets, and the namespaces that hold them.

mod device;
mod namespace;
mod neighbour;
mod socket;
mod state;

pub use device::{IpAddress, NetDevice, addresses, devices};
pub use namespace::{initial, namespaces, of_proxy};
pub use neighbour::{Neighbour, NeighbourTable, Neighbours, State as NeighbourState};
pub use socket::{Endpoint, Queues, Sock, SocketLoader, Who};
pub use state::{family_name, netlink_name, protocol_name, state_name, type_name};
