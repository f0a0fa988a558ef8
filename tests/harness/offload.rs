//! Offloads of a link's driver (ethtool(8), `SIOCETHTOOL`).

use std::{ffi::CString, io, net::UdpSocket, os::fd::AsRawFd as _};

use nix::libc;

/// Commands of `linux/ethtool.h` that switch checksums: computing, checking.
const SET_CHECKSUMS: [u32; 2] = [0x17, 0x15];

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Leaves checksums to the driver, or to the stack. Of the calling thread's
/// network namespace.
#[track_caller]
pub fn set_checksums(link: &str, by_driver: bool) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    for command in SET_CHECKSUMS {
        let mut value = Value { command, data: u32::from(by_driver) };
        // SAFETY: an `ifreq` of zeroes is one.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let name = CString::new(link).expect("a link's name");
        let name = name.as_bytes_with_nul();
        assert!(name.len() <= request.ifr_name.len(), "{link} is too long for a link's name");
        for (place, octet) in request.ifr_name.iter_mut().zip(name) {
            *place = octet.cast_signed();
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the request names a link and points to a value that lives.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &request) };
        assert_eq!(done, 0, "checksums of {link}: {}", io::Error::last_os_error());
    }
}
