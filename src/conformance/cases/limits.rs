//! Limits: how many tunnels at once, how fast, and what is left of the proxy afterwards.

mod load;
mod pace;
mod verdict;

use crate::conformance::{
    case::{Case, Judgement, Level, Trial, Turn},
    rig::{Rig, Way},
};

pub(in crate::conformance) use load::Load;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "limits/latency",
        level: Level::Should,
        reference: "a snapshot of many disks opens tunnels one after another, under a deadline",
        title: "A CONNECT is answered quickly while little else goes on",
        turn: Turn::Load,
        run: |rig| with_way(rig, async move |way| pace::judge_latency(&pace::latency(rig, way).await)),
    },
    Case {
        id: "limits/rate",
        level: Level::May,
        reference: "machines that are backed up at the same hour ask at the same time",
        title: "Tunnels open also when several are asked for at once",
        turn: Turn::Load,
        run: |rig| with_way(rig, async move |way| pace::judge_rate(&pace::rate(rig, way).await)),
    },
    Case {
        id: "limits/concurrent",
        level: Level::Must,
        reference: "every disk of every machine under backup holds tunnels at the same time",
        title: "As many tunnels stand at once as the estate needs, each carrying bytes",
        turn: Turn::Load,
        run: |rig| under_load(rig, verdict::judge_concurrent),
    },
    Case {
        id: "limits/recovers",
        level: Level::Must,
        reference: "the next backup goes through the same proxy",
        title: "After the load an ordinary CONNECT is served at once",
        turn: Turn::Load,
        run: |rig| under_load(rig, verdict::judge_recovers),
    },
];

fn with_way<'r>(rig: &'r Rig, run: impl AsyncFnOnce(Way) -> Judgement + 'r) -> Trial<'r> {
    Box::pin(async move {
        vec![match rig.way() {
            Ok(way) => run(way).await,
            Err(reason) => reason,
        }]
    })
}

/// The two cases that look at the same load: it is put on the proxy once.
fn under_load(rig: &Rig, judge: fn(&Load) -> Judgement) -> Trial<'_> {
    with_way(rig, async move |way| {
        if rig.options.tunnels == 0 {
            return Judgement::not_run("no tunnels are to be held open at once");
        }
        judge(rig.load.get_or_init(|| load::measure(rig, way)).await)
    })
}
