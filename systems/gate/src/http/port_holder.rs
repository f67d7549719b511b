//! Which process holds a port, for the error that names it. Known on Linux only, and only for processes of the same user.

/// TCP or UDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// The HTTP door's.
    Tcp,
    /// The UDP door's.
    Udp,
}

/// A process that listens on a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, as the operating system has it.
    pub name: String,
}

/// The process that listens on `port`, if it can be found.
#[cfg(target_os = "linux")]
pub fn holder(protocol: Protocol, port: u16) -> Option<Holder> {
    use std::fs;
    let (tables, state) = match protocol {
        Protocol::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], "0A"),
        Protocol::Udp => (["/proc/net/udp", "/proc/net/udp6"], "07"),
    };
    let suffix = format!(":{port:04X}");
    // Columns: number, local address, remote address, state, queues, timer, retransmits, uid, time-out, inode.
    let inode = tables.iter().filter_map(|table| fs::read_to_string(table).ok()).find_map(|table| {
        table.lines().skip(1).find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ours = words.get(1)?.ends_with(&suffix) && *words.get(3)? == state;
            ours.then(|| words.get(9).map(|inode| format!("socket:[{inode}]"))).flatten()
        })
    })?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let holds = open.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == inode.as_str()));
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        holds.then(|| Holder { pid, name: name.trim().to_owned() })
    })
}

/// The process that listens on `port`, if it can be found.
#[cfg(not(target_os = "linux"))]
pub fn holder(_: Protocol, _: u16) -> Option<Holder> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_by_its_ports() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let udp = std::net::UdpSocket::bind("[::1]:0").expect("a port");
        let pid = Some(std::process::id());
        let port = tcp.local_addr().expect("an address").port();
        assert_eq!(holder(Protocol::Tcp, port).map(|holder| holder.pid), pid);
        let port = udp.local_addr().expect("an address").port();
        assert_eq!(holder(Protocol::Udp, port).map(|holder| holder.pid), pid);
    }
}
