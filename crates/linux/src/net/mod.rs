//! The network (`net/`): devices, their addresses and queues, neighbours, routes, sockets, TCP from inside, tracked
//! connections, and the namespaces that hold them.

mod conntrack;
mod device;
mod namespace;
mod neighbour;
pub mod nft;
mod qdisc;
mod route;
pub mod skbuff;
mod socket;
mod state;
mod tcp;
mod tcp_ends;

pub use conntrack::{Connection, Tuple, connections as tracked, is_there as tracks};
pub use device::{IpAddress, NetDevice, addresses, devices};
pub use namespace::{initial, namespaces, number, of_proxy, per_net};
pub use neighbour::{Neighbour, NeighbourTable, Neighbours, State as NeighbourState};
pub use qdisc::{DeviceQueue, Discipline, Sender, Softnet};
pub use route::{Hop, Route, Routes, kind_name as route_kind, protocol_name as route_protocol};
pub use socket::{Endpoint, Queues, Sock, SocketLoader, Who};
pub use state::{family_name, netlink_name, protocol_name, state_name, type_name};
pub use tcp::{Tcp, TcpLoader, Timer, connections as tcp_connections};
pub use tcp_ends::{Ended, Listener, ended as tcp_ended, listeners as tcp_listeners};
