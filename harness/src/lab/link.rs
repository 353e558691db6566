//! The netlink work of a lane: make the pair, bring links up, give addresses. Each function enters the
//! namespace it changes; none waits longer than [`CARRIER_LIMIT`].

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use gauntlet_probes::netns::NetNs;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, State};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteScope};
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, MulticastGroup, RouteMessageBuilder,
};
use tokio::time::timeout;

use super::LabError;

/// How long an interface may take until it has a carrier; in practice it is milliseconds.
const CARRIER_LIMIT: Duration = Duration::from_secs(5);

/// Prefix lengths of a lane's subnets.
const PREFIX_V4: u8 = 30;
const PREFIX_V6: u8 = 64;

/// Makes a veth pair with one end in each namespace.
pub(super) fn join(near: &NetNs, name: &str, far: &NetNs, peer: &str) -> Result<(), LabError> {
    let far_end = LinkMessageBuilder::<LinkUnspec>::default()
        .name(peer)
        .setns_by_fd(far.as_fd().as_raw_fd())
        .build();
    let pair = LinkVeth::new(name, peer)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(far_end)))
        .build();
    inside(near, async |netlink| {
        let made = netlink.handle.link().add(pair).execute().await;
        netlink.accepted(made, || format!("make the pair {name} and {peer}"))
    })
}

/// Sets the loopback and `interface` up.
pub(super) fn bring_up(namespace: &NetNs, interface: &str) -> Result<(), LabError> {
    inside(namespace, async |netlink| {
        for name in ["lo", interface] {
            let up = LinkUnspec::new_with_name(name).up().build();
            let set = netlink.handle.link().set(up).execute().await;
            netlink.accepted(set, || format!("set {name} up"))?;
        }
        Ok(())
    })
}

/// Lets `interface` take packets of so many bytes.
pub(super) fn stretch(namespace: &NetNs, interface: &str, mtu: u32) -> Result<(), LabError> {
    inside(namespace, async |netlink| {
        let longer = LinkUnspec::new_with_name(interface).mtu(mtu).build();
        let set = netlink.handle.link().set(longer).execute().await;
        netlink.accepted(set, || format!("let {interface} take {mtu} bytes"))
    })
}

/// Waits until `interface` carries packets, then gives it its addresses, usable at once.
pub(super) fn settle(
    namespace: &NetNs,
    interface: &str,
    addresses: &[IpAddr],
) -> Result<(), LabError> {
    inside(namespace, async |mut netlink| {
        let index = match timeout(CARRIER_LIMIT, netlink.carrier(interface)).await {
            Ok(found) => found?,
            Err(_elapsed) => {
                return Err(LabError::Carrier {
                    namespace: netlink.namespace,
                    interface: interface.into(),
                    seconds: CARRIER_LIMIT.as_secs(),
                });
            }
        };
        for &address in addresses {
            let prefix = if address.is_ipv4() {
                PREFIX_V4
            } else {
                PREFIX_V6
            };
            let mut request = netlink.handle.address().add(index, address, prefix);
            if address.is_ipv6() {
                // Duplicate address detection would keep the address unusable for a second or two,
                // and nobody else is on this cable.
                request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            }
            let added = request.execute().await;
            netlink.accepted(added, || format!("give {address} to {interface}"))?;
        }
        Ok(())
    })
}

/// Makes TCP from `own` to `peer` repeat what is not acknowledged after `rto_min` already: the metric of a
/// route for that peer alone.
pub(super) fn hurry(
    namespace: &NetNs,
    interface: &str,
    own: IpAddr,
    peer: IpAddr,
    rto_min: Duration,
) -> Result<(), LabError> {
    // Milliseconds, whatever the kernel's clock ticks in (`dst_metric_rtt`).
    let metric = RouteMetric::RtoMin(u32::try_from(rto_min.as_millis()).unwrap_or(u32::MAX));
    inside(namespace, async |mut netlink| {
        let index = netlink.carrier(interface).await?;
        let mut route = to(peer);
        route.header.scope = RouteScope::Link;
        route.attributes.extend([
            RouteAttribute::Oif(index),
            RouteAttribute::PrefSource(own.into()),
            RouteAttribute::Metrics(vec![metric]),
        ]);
        let made = netlink.handle.route().add(route).replace().execute().await;
        netlink.accepted(made, || format!("make a route to {peer}"))
    })
}

/// Takes that route away.
pub(super) fn take_time(namespace: &NetNs, peer: IpAddr) -> Result<(), LabError> {
    inside(namespace, async |netlink| {
        // Of whatever scope, as iproute2 has it.
        let mut route = to(peer);
        route.header.scope = RouteScope::NoWhere;
        let gone = netlink.handle.route().del(route).execute().await;
        netlink.accepted(gone, || format!("take the route to {peer} away"))
    })
}

/// A route to one address.
fn to(peer: IpAddr) -> RouteMessage {
    match peer {
        IpAddr::V4(peer) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(peer, 32)
            .build(),
        IpAddr::V6(peer) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(peer, 128)
            .build(),
    }
}

/// A netlink socket inside a namespace, subscribed to changes of links.
struct Netlink {
    namespace: String,
    handle: Handle,
    changes: Changes,
}

type Changes = std::pin::Pin<Box<dyn futures_util::Stream<Item = RouteNetlinkMessage>>>;

impl Netlink {
    /// Returns the index of `interface` as soon as the kernel says that it is operational. Being set
    /// up is not enough: until then packets are dropped, and a lost SYN costs a second.
    async fn carrier(&mut self, interface: &str) -> Result<u32, LabError> {
        let mut links = self
            .handle
            .link()
            .get()
            .match_name(interface.to_owned())
            .execute();
        let found = links.try_next().await;
        let Some(link) = self.accepted(found, || format!("look for {interface}"))? else {
            return std::future::pending().await;
        };
        let index = link.header.index;
        if operational(&link) {
            return Ok(index);
        }
        while let Some(change) = self.changes.next().await {
            if matches!(&change, RouteNetlinkMessage::NewLink(link)
                if link.header.index == index && operational(link))
            {
                return Ok(index);
            }
        }
        std::future::pending().await
    }

    fn accepted<T>(
        &self,
        answer: Result<T, rtnetlink::Error>,
        action: impl FnOnce() -> String,
    ) -> Result<T, LabError> {
        answer.map_err(|source| LabError::Refused {
            namespace: self.namespace.clone(),
            action: action(),
            source: Box::new(source),
        })
    }
}

fn operational(link: &LinkMessage) -> bool {
    link.attributes
        .contains(&LinkAttribute::OperState(State::Up))
}

/// Runs `work` with a netlink socket that was opened inside `namespace`.
fn inside<T, Work>(
    namespace: &NetNs,
    work: impl FnOnce(Netlink) -> Work + Send,
) -> Result<T, LabError>
where
    T: Send,
    Work: Future<Output = Result<T, LabError>>,
{
    let fail = |source| LabError::Socket {
        namespace: namespace.label().into(),
        source,
    };
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(fail)?;
        runtime.block_on(async {
            let (connection, handle, messages) =
                rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).map_err(fail)?;
            tokio::spawn(connection);
            let changes = messages.filter_map(async |(message, _)| match message.payload {
                NetlinkPayload::InnerMessage(change) => Some(change),
                _ => None,
            });
            let namespace = namespace.label().into();
            work(Netlink {
                namespace,
                handle,
                changes: Box::pin(changes),
            })
            .await
        })
    })?
}
