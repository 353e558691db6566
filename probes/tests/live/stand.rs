//! Two anonymous network namespaces joined by a veth pair: `c0` at the client's end, `s0` at the
//! server's. They vanish with the value, and with the process.

use std::net::IpAddr;
use std::process::Command;

use gauntlet_probes::netns::NetNs;
use libtest_mimic::Failed;

/// The server's interface.
pub(crate) const SERVER: &str = "s0";
/// The server's addresses.
pub(crate) const SERVER_V4: &str = "10.77.0.2";
pub(crate) const SERVER_V6: &str = "fd77::2";

/// The two ends.
pub(crate) struct Stand {
    pub(crate) client: NetNs,
    pub(crate) server: NetNs,
}

impl Stand {
    /// With addresses of both families.
    pub(crate) fn new() -> Result<Self, Failed> {
        let stand = Self::bare()?;
        address(&stand.client, "c0", "10.77.0.1/24", "fd77::1/64")?;
        address(&stand.server, SERVER, "10.77.0.2/24", "fd77::2/64")?;
        Ok(stand)
    }

    /// Without addresses.
    pub(crate) fn bare() -> Result<Self, Failed> {
        let stand = Self {
            client: NetNs::anonymous("of the client")?,
            server: NetNs::anonymous("of the server")?,
        };
        let there = stand.server.path();
        let there = there.display();
        ip(
            &stand.client,
            &format!("link add c0 type veth peer name {SERVER} netns {there}"),
        )?;
        for (namespace, interface) in [(&stand.client, "c0"), (&stand.server, SERVER)] {
            ip(namespace, "link set lo up")?;
            ip(namespace, &format!("link set {interface} up"))?;
        }
        Ok(stand)
    }
}

/// Gives an interface an address of each family.
pub(crate) fn address(
    namespace: &NetNs,
    interface: &str,
    v4: &str,
    v6: &str,
) -> Result<(), Failed> {
    ip(namespace, &format!("addr add {v4} dev {interface}"))?;
    // No duplicate address detection: it would take seconds to be of use.
    ip(namespace, &format!("addr add {v6} dev {interface} nodad"))
}

/// Both addresses of the server.
pub(crate) fn server_addresses() -> [IpAddr; 2] {
    [SERVER_V4, SERVER_V6].map(|text| text.parse().expect("an address"))
}

/// `ip`, inside a namespace. Arguments are separated by spaces.
pub(crate) fn ip(namespace: &NetNs, arguments: &str) -> Result<(), Failed> {
    output(
        namespace,
        Command::new("ip").args(arguments.split_whitespace()),
    )
    .map(drop)
}

/// `tc`, inside a namespace; what it printed.
pub(crate) fn tc(namespace: &NetNs, arguments: &str) -> Result<String, Failed> {
    output(
        namespace,
        Command::new("tc").args(arguments.split_whitespace()),
    )
}

/// Runs a command inside a namespace, and wants it to succeed.
pub(crate) fn output(namespace: &NetNs, command: &mut Command) -> Result<String, Failed> {
    let output = namespace.run(|| command.output())??;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}: {said}", output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
