//! What the load says about the proxy: whose limit was met, which setting it is likely to be, and whether the proxy
//! outlived it.

use std::time::Duration;

use super::load::{After, End, How, Load, Reopened, Stop};
use crate::{
    classify::codes,
    conformance::case::{Judgement, Remedy, Unit},
};

/// A tunnel that opens within this is served at once, by a proxy that has just closed thousands.
const AT_ONCE: Duration = Duration::from_secs(1);

/// With fewer tunnels than this nothing is said about a proxy.
const TOO_FEW: usize = 16;

/// Limits of file descriptors that systems set (1024: systemd's soft limit, and the default of most shells).
const DESCRIPTOR_LIMITS: [usize; 2] = [1024, 4096];

pub(super) fn judge_concurrent(load: &Load) -> Judgement {
    let judgement = concurrent(load).figure("held", count(load.held), Unit::Count);
    let judgement = match load.strays.0 {
        0 => judgement,
        strays => judgement.figure("failed", count(strays), Unit::Count),
    };
    let seconds = load.elapsed.as_secs_f64();
    if load.held == 0 || seconds <= 0.0 {
        return judgement;
    }
    judgement.figure("opening", seconds * 1000.0, Unit::Ms).figure(
        "opened",
        count(load.held) / seconds,
        Unit::PerSecond,
    )
}

fn concurrent(load: &Load) -> Judgement {
    let Load { wanted, possible, .. } = *load;
    if possible < wanted && possible < TOO_FEW {
        let reason = "this machine can hold too few connections open to tell";
        return this_side(Judgement::not_run(reason), load);
    }
    if load.lost > 0 {
        return Judgement::fail("tunnels that stood carry nothing any more while others are held")
            .because("each had carried a line to the origin and one back before")
            .figure("lost", count(load.lost), Unit::Count)
            .code(Some(codes::PROXY_OVERLOADED))
            .remedy(Remedy::Clients { count: ample(wanted) });
    }
    match &load.end {
        End::Stopped { stop, edge } => stopped(load, stop, *edge),
        End::TimeUp => match &load.strays.1 {
            None => Judgement::warn(format!(
                "no tunnel was refused, but the time of the load was up before {wanted} stood at once"
            )),
            Some(stop) => Judgement::warn(format!(
                "the time of the load was up before {wanted} tunnels stood at once, as some CONNECTs failed"
            ))
            .because(stop.heard.clone())
            .code(stop.code),
        }
        .because("those that were opened carried bytes until the end"),
        End::Full | End::Ours(_) => stands(load),
    }
}

/// As many tunnels stand as were asked for.
fn stands(load: &Load) -> Judgement {
    let Load { wanted, possible, .. } = *load;
    if let Some(Reopened { closed, opened }) = load.reopened
        && opened < closed
    {
        return Judgement::fail("tunnels that were closed make no room for others")
            .because(format!("{closed} were closed, and fewer could be opened again"))
            .code(Some(codes::PROXY_OVERLOADED))
            .remedy(Remedy::Clients { count: ample(wanted) });
    }
    if possible < wanted {
        let judgement = Judgement::warn(format!(
            "as many tunnels stand at once as this machine can hold, which is less than the {wanted} that are wanted"
        ));
        return this_side(judgement, load);
    }
    match &load.strays.1 {
        Some(stop) => {
            Judgement::warn(format!("{wanted} tunnels stand at once, but some CONNECTs failed while they were opened"))
                .because(stop.heard.clone())
                .code(stop.code)
        }
        None => Judgement::pass(format!("{wanted} tunnels stand at once, and all carry bytes"))
            .because("tunnels that were closed made room for as many others"),
    }
}

/// The proxy opens fewer than wanted.
fn stopped(load: &Load, stop: &Stop, edge: Option<usize>) -> Judgement {
    let wanted = load.wanted;
    let released = load.reopened.is_some_and(|reopened| reopened.opened > 0);
    let then = match &stop.how {
        How::NoConnection => "takes no further connection".to_owned(),
        How::Silent => "leaves further CONNECTs unanswered".to_owned(),
        How::Answered(status) => format!("answers further CONNECTs with `{status}`"),
        How::HungUp => "breaks further connections off".to_owned(),
        How::Dead => "opens further ones that carry nothing".to_owned(),
        How::Here(_) => return stop.not_run(),
    };
    let setting = setting(edge.unwrap_or(load.held), &stop.how).filter(|_| released);
    let judgement = match &setting {
        _ if !released => Judgement::fail("the proxy stops serving while tunnels are held")
            .because("nor did it serve again when some of them were closed"),
        Some(setting) => Judgement::fail(format!(
            "the proxy holds fewer than the {wanted} tunnels that are wanted, and {then}: {}",
            setting.name
        )),
        None => Judgement::fail(format!("the proxy holds fewer than the {wanted} tunnels that are wanted, and {then}")),
    };
    // A connection that is still closing counts too, so the number differs by some from run to run.
    let judgement = match edge {
        Some(edge) => judgement.figure("limit", count(edge), Unit::Count),
        None => judgement,
    };
    let judgement = if released {
        judgement.because("when some were closed, others could be opened in their place: it is a limit, and no outage")
    } else {
        judgement
    };
    let remedy = setting.map_or(Remedy::Clients { count: ample(wanted) }, |setting| setting.remedy(wanted));
    let judgement = judgement
        .because(stop.heard.clone())
        .code(if released { Some(codes::PROXY_OVERLOADED) } else { stop.code })
        .remedy(remedy);
    let judgement = match stop.how {
        How::Dead if !load.origin_here => {
            judgement.because("unless it is the origin's, elsewhere: see ulimit -n there")
        }
        _ => judgement,
    };
    if load.possible < wanted {
        return this_side(judgement, load).because("the proxy stopped before that was used up");
    }
    judgement.because(format!("it is not this side, which has file descriptors for {wanted} tunnels")).figure(
        "descriptors_here",
        count(load.descriptors),
        Unit::Count,
    )
}

/// With what this machine cannot do.
fn this_side(judgement: Judgement, load: &Load) -> Judgement {
    let judgement = judgement
        .because(format!("this process may have {} file descriptors (ulimit -n)", load.descriptors))
        .figure("possible_here", count(load.possible), Unit::Count);
    match &load.end {
        End::Ours(stop) => judgement.because(stop.heard.clone()),
        _ => judgement,
    }
}

/// What is likely to have set a limit.
struct Setting {
    name: &'static str,
    descriptors: bool,
    /// Whether no setting raises it.
    fixed: bool,
}

impl Setting {
    fn remedy(&self, wanted: usize) -> Remedy {
        match self {
            Self { fixed: true, .. } => Remedy::Replace,
            // Two a tunnel, and some for everything else.
            Self { descriptors: true, .. } => Remedy::Descriptors { count: (2 * wanted + 512).next_power_of_two() },
            _ => Remedy::Clients { count: ample(wanted) },
        }
    }
}

/// Numbers that were met in real proxies: squid 5.7 keeps some 100 descriptors in reserve, so that 459 tunnels are what
/// 1,024 give; tinyproxy, privoxy, cntlm and others use them up. tinyproxy and privoxy come with limits of their own. All
/// count connections that are still closing, so that some tunnels fewer are met than the number says.
fn setting(edge: usize, how: &How) -> Option<Setting> {
    let known = |name| Some(Setting { name, descriptors: false, fixed: false });
    match (edge, how) {
        (90..=101, How::Silent) => return known("a limit of clients, which in tinyproxy is 100 by default"),
        (118..=128 | 246..=256, How::Answered(_)) => {
            return known("a limit of clients, which in privoxy is 128 or 256 by default");
        }
        _ => {}
    }
    let used_up = |limit: &usize| matches!((limit / 2).checked_sub(edge), Some(1..=8 | 50..=75));
    let limit = DESCRIPTOR_LIMITS.into_iter().find(used_up)?;
    Some(match (limit, how) {
        (1024, How::Dead) => Setting {
            name: "its 1024 file descriptors, more of which a program that waits with select(2) cannot use",
            descriptors: true,
            fixed: true,
        },
        (1024, _) => Setting { name: "its limit of 1024 file descriptors", descriptors: true, fixed: false },
        _ => Setting { name: "its limit of 4096 file descriptors", descriptors: true, fixed: false },
    })
}

pub(super) fn judge_recovers(load: &Load) -> Judgement {
    if load.held == 0 {
        return Judgement::not_run("no tunnel stood, so that there was no load");
    }
    match &load.after {
        After::Served(took) => {
            let judgement = if *took <= AT_ONCE {
                Judgement::pass("once the tunnels are closed an ordinary CONNECT is served at once")
            } else {
                Judgement::warn("once the tunnels are closed an ordinary CONNECT is served, but not at once")
                    .because("it takes longer than a second")
            };
            judgement.figure("connect", took.as_secs_f64() * 1000.0, Unit::Ms)
        }
        After::Failed(stop) if stop.is_ours() => stop.not_run(),
        After::Failed(stop) => Judgement::fail("the proxy does not recover: an ordinary CONNECT fails after the load")
            .because("all tunnels of the load had been closed")
            .because(stop.heard.clone())
            .code(stop.code)
            .remedy(Remedy::Clients { count: ample(load.wanted) }),
    }
}

/// Half as many again: other clients want tunnels too.
fn ample(wanted: usize) -> usize {
    wanted + wanted / 2
}

#[expect(clippy::cast_precision_loss)]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests;
