//! Variables that Kubernetes makes, and that look like ours.

use std::ffi::OsStr;

/// Is this variable one of those that Kubernetes gives every pod for a Service, such as `kaos-udp`? `rest`: its name
/// without `KAOS_`. `NAME_PORT` has to have the value of one: a bare number was meant for us.
pub(super) fn is_of_a_service(rest: &str, value: &OsStr) -> bool {
    if rest.ends_with("_SERVICE_HOST") || rest.ends_with("_SERVICE_PORT") || rest.contains("_SERVICE_PORT_") {
        return true;
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // NAME_PORT_7352_UDP, and the same with _PROTO, _PORT and _ADDR.
    let of_a_port = |(at, _): (usize, &str)| {
        let mut parts = rest[at + "_PORT_".len()..].split('_');
        let (number, protocol) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        is_number(number) && ["TCP", "UDP", "SCTP"].contains(&protocol)
    };
    let is_url = value.to_str().is_some_and(|value| value.contains("://"));
    (rest.ends_with("_PORT") && is_url) || rest.match_indices("_PORT_").any(of_a_port)
}
