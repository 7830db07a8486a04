//! Effective routes: where packets go once the security groups have let them through.

use std::{cmp::Reverse, net::IpAddr};

use super::{
    address::{Range, Ranges, number},
    input::{At, NsgError, shown},
    parse::expression,
    tags::ServiceTags,
};
use crate::model::RouteVerdict;

/// Routes of a network interface (`az network nic show-effective-route-table`), or of a route table, which has the
/// user's routes alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Routes {
    routes: Vec<Route>,
    /// Whether Azure's own routes are there as well.
    pub(super) complete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    prefixes: Vec<Destination>,
    next_hop: String,
    next_hop_address: Option<IpAddr>,
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    Prefix(String, Range),
    Tag(String),
}

/// What the routes say about an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selected {
    /// This one is taken.
    Route(RouteVerdict),
    /// None of them matches.
    None,
    /// A route to this service tag may match, and its addresses are not known.
    Undecided(String),
}

impl Routes {
    /// Reads a list of routes.
    pub(super) fn read(list: &At<'_>, notes: &mut Vec<String>) -> Result<Self, NsgError> {
        let mut routes = Self::default();
        for element in list.elements() {
            let inner = element.get("properties");
            let content = inner.as_ref().unwrap_or(&element);
            let text = |key| content.get(key).and_then(|at| at.text().map(str::to_owned));
            routes.complete |= content.has("state") || content.has("source");
            let Some(next_hop) = text("nextHopType") else {
                return Err(content.error("this route has no `nextHopType`"));
            };
            if text("state").is_some_and(|state| !state.eq_ignore_ascii_case("active")) {
                continue;
            }
            let prefixes = match content.get("addressPrefix") {
                Some(at) => strings(&at)?,
                None => return Err(content.error("this route has no `addressPrefix`")),
            };
            let mut unusable = None;
            let prefixes = prefixes
                .into_iter()
                .filter_map(|text| {
                    if let Some(range) = Range::parse(&text) {
                        Some(Ok(Destination::Prefix(text, range)))
                    } else if text.starts_with('[') {
                        unusable = Some(text);
                        None
                    } else if text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) {
                        Some(Ok(Destination::Tag(text)))
                    } else {
                        Some(Err(
                            content.error(format!("found addressPrefix `{text}`; write a prefix such as 0.0.0.0/0"))
                        ))
                    }
                })
                .collect::<Result<Vec<_>, _>>()?;
            if let Some(expression) = unusable.or_else(|| Some(next_hop.clone()).filter(|hop| hop.starts_with('['))) {
                notes.push(format!("{}: a route is left out, {expression} cannot be evaluated offline", list.file()));
                continue;
            }
            let next_hop_address = match content.get("nextHopIpAddress") {
                Some(at) => strings(&at)?.first().and_then(|text| text.parse().ok()),
                None => None,
            };
            routes.routes.push(Route {
                prefixes,
                next_hop: plain(&next_hop),
                next_hop_address,
                source: text("source").unwrap_or_else(|| "User".to_owned()),
            });
        }
        Ok(routes)
    }

    pub(super) fn append(&mut self, other: Self) {
        self.complete |= other.complete;
        self.routes.extend(other.routes);
    }

    pub(super) fn len(&self) -> usize {
        self.routes.len()
    }

    /// The addresses that the tag `VirtualNetwork` stands for as far as routes tell: the network itself, its peers,
    /// what lies behind gateways; second, what it may stand for: prefixes of user's routes ("Virtual network service
    /// tags", `VirtualNetwork`). Default routes are left out.
    pub(super) fn virtual_network(&self) -> Option<(Ranges, Ranges)> {
        let of = |wanted: fn(&Route) -> bool| -> Ranges {
            let routes = self.routes.iter().filter(|route| wanted(route));
            routes
                .flat_map(|route| &route.prefixes)
                .filter_map(|prefix| match prefix {
                    Destination::Prefix(text, range) if !text.ends_with("/0") => Some(*range),
                    _ => None,
                })
                .flat_map(Range::pieces)
                .collect()
        };
        let sure = of(|route| {
            ["VnetLocal", "VNetPeering", "VNetGlobalPeering", "VirtualNetworkGateway"]
                .iter()
                .any(|hop| route.is_to(hop))
        });
        self.complete.then(|| (sure, of(|route| route.source.eq_ignore_ascii_case("User"))))
    }

    /// Where another route may begin to match: the first addresses of all prefixes, and those after their last ones.
    pub(super) fn boundaries(&self, tags: Option<&ServiceTags>) -> Vec<u128> {
        let mut boundaries: Vec<u128> = self
            .routes
            .iter()
            .flat_map(|route| &route.prefixes)
            .flat_map(|prefix| match prefix {
                Destination::Prefix(_, range) => vec![*range],
                Destination::Tag(tag) => {
                    tags.and_then(|tags| tags.get(tag)).map_or_else(Vec::new, |tag| tag.prefixes.clone())
                }
            })
            .flat_map(|range| [Some(range.first), range.last.checked_add(1)])
            .flatten()
            .collect();
        boundaries.sort_unstable();
        boundaries.dedup();
        boundaries
    }

    /// The default route, for addresses that are not known; undecided where another route is to public addresses too.
    pub(super) fn select_public(&self) -> Selected {
        let private = Ranges::private();
        let is_default = |prefix: &Destination| matches!(prefix, Destination::Prefix(text, _) if text == "0.0.0.0/0");
        let other = self.routes.iter().flat_map(|route| &route.prefixes).find_map(|prefix| match prefix {
            Destination::Prefix(text, range) => {
                let is_public = !is_default(prefix) && text.contains('.') && !private.covers(range);
                is_public.then(|| text.clone())
            }
            Destination::Tag(tag) => Some(tag.clone()),
        });
        if let Some(other) = other {
            return Selected::Undecided(other);
        }
        let defaults = self.routes.iter().filter(|route| route.prefixes.iter().any(is_default));
        defaults.max_by_key(|route| route.rank()).map_or(Selected::None, |route| {
            Selected::Route(RouteVerdict {
                prefix: "0.0.0.0/0".to_owned(),
                next_hop: route.next_hop.clone(),
                next_hop_address: route.next_hop_address,
                source: route.source.clone(),
            })
        })
    }

    /// Selects as Azure does ("Virtual network traffic routing", how Azure selects a route): the longest prefix; among
    /// equals the user's route, then BGP's, then Azure's own. Azure's routes to the network, to its peers and to service
    /// endpoints win over any BGP route.
    pub(super) fn select(&self, ip: IpAddr, tags: Option<&ServiceTags>) -> Selected {
        let at = number(ip);
        let mut matching: Vec<(u128, &Route, String)> = Vec::new();
        let mut undecided = None;
        for route in &self.routes {
            for prefix in &route.prefixes {
                match prefix {
                    Destination::Prefix(text, range) if (range.first..=range.last).contains(&at) => {
                        matching.push((range.span(), route, text.clone()));
                    }
                    Destination::Prefix(..) => {}
                    Destination::Tag(tag) => match tags.and_then(|tags| tags.get(tag)) {
                        Some(known) => {
                            let best = known.prefixes.iter().filter(|range| (range.first..=range.last).contains(&at));
                            if let Some(range) = best.min_by_key(|range| range.span()) {
                                matching.push((range.span(), route, known.name.clone()));
                            }
                        }
                        None if !Ranges::private().contains(at) => undecided = Some(tag.clone()),
                        None => {}
                    },
                }
            }
        }
        let system = |route: &Route| {
            let hops = ["VnetLocal", "VNetPeering", "VNetGlobalPeering", "VirtualNetworkServiceEndpoint"];
            route.source.eq_ignore_ascii_case("Default") && hops.iter().any(|hop| route.is_to(hop))
        };
        if matching.iter().any(|(_, route, _)| system(route)) {
            matching.retain(|(_, route, _)| !route.is_bgp());
        }
        if let Some(tag) = undecided {
            return Selected::Undecided(tag);
        }
        matching.into_iter().min_by_key(|(span, route, _)| (*span, Reverse(route.rank()))).map_or(
            Selected::None,
            |(_, route, prefix)| {
                Selected::Route(RouteVerdict {
                    prefix,
                    next_hop: route.next_hop.clone(),
                    next_hop_address: route.next_hop_address,
                    source: route.source.clone(),
                })
            },
        )
    }
}

impl Route {
    fn is_to(&self, next_hop: &str) -> bool {
        self.next_hop.eq_ignore_ascii_case(next_hop)
    }

    fn is_bgp(&self) -> bool {
        self.source.eq_ignore_ascii_case("VirtualNetworkGateway")
    }

    fn rank(&self) -> u8 {
        match () {
            () if self.source.eq_ignore_ascii_case("User") => 2,
            () if self.is_bgp() => 1,
            () => 0,
        }
    }
}

/// A next hop's type without the spaces that the portal writes into it.
fn plain(next_hop: &str) -> String {
    next_hop.split_whitespace().collect()
}

/// One string, or a list of them.
fn strings(at: &At<'_>) -> Result<Vec<String>, NsgError> {
    let one = |at: &At<'_>| {
        at.text().map(str::to_owned).ok_or_else(|| at.error(format!("expected a text, found {}", shown(at.value()))))
    };
    if at.is_array() { at.elements().map(|element| one(&element)).collect() } else { Ok(vec![one(at)?]) }
}

/// Whether an object is a route.
pub(super) fn is_route(at: &At<'_>) -> bool {
    at.has("nextHopType") || at.get("properties").is_some_and(|inner| inner.has("nextHopType"))
}

/// Whether a list that a template computes stands in place of routes.
pub(super) fn is_computed(at: &At<'_>) -> bool {
    expression(at.value()).is_some()
}
