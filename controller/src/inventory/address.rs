//! `name:port` as Ansible splits it: names and IPv4 addresses at the last colon, IPv6 in brackets.

/// The name without its port, and the port.
pub(super) fn split_port(text: &str) -> (&str, Option<u16>) {
    let Some((name, port)) = text.rsplit_once(':') else { return (text, None) };
    let Ok(port) = port.parse() else { return (text, None) };
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = bare.filter(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok()) {
        return (address, Some(port));
    }
    // A colon that is left is one of a bare IPv6 address, unless it stands in the brackets of a range.
    let mut depth = 0;
    for c in name.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ':' if depth == 0 => return (text, None),
            _ => {}
        }
    }
    if depth == 0 { (name, Some(port)) } else { (text, None) }
}

#[cfg(test)]
mod tests {
    use super::split_port;

    #[test]
    fn a_bare_ipv6_address_stays_whole() {
        assert_eq!(split_port("web:2222"), ("web", Some(2222)));
        assert_eq!(split_port("[fe80::1]:22"), ("fe80::1", Some(22)));
        assert_eq!(split_port("fe80::1"), ("fe80::1", None));
        assert_eq!(split_port("web"), ("web", None));
        assert_eq!(split_port("w[1:2].lan:2022"), ("w[1:2].lan", Some(2022)));
        assert_eq!(split_port("w[1:2]"), ("w[1:2]", None));
        assert_eq!(split_port("web:http"), ("web:http", None));
    }
}
