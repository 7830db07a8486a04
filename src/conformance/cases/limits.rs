//! Limits: how many tunnels at once, how fast, and what is left of the proxy afterwards.

mod load;
mod pace;
mod verdict;

use crate::conformance::{
    case::{Case, Judgement, Level, Trial, Turn},
    rig::{Rig, Way, placeholder},
};

pub(in crate::conformance) use load::Load;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "limits/latency",
        level: Level::Should,
        reference: "a snapshot of many disks opens tunnels one after another, under a deadline",
        title: "A CONNECT is answered quickly while little else goes on",
        turn: Turn::Load,
        run: |rig| {
            with_way(rig, async move |way| {
                let times = "-o /dev/null -w '%{time_pretransfer}\\n' -H 'Connection: close'";
                let command =
                    format!("{} --proxytunnel {times} 'http://{}/?[1-100]'", rig.curl_command(), placeholder(way.door));
                pace::judge_latency(&pace::latency(rig, way).await).reproduced(command)
            })
        },
    },
    Case {
        id: "limits/rate",
        level: Level::May,
        reference: "machines that are backed up at the same hour ask at the same time",
        title: "Tunnels open also when several are asked for at once",
        turn: Turn::Load,
        run: |rig| {
            with_way(rig, async move |way| {
                let many = "-Z --parallel-immediate --parallel-max 64 -o /dev/null";
                let command =
                    format!("{} --proxytunnel {many} 'http://{}/?[1-400]'", rig.curl_command(), placeholder(way.door));
                pace::judge_rate(&pace::rate(rig, way).await).reproduced(command)
            })
        },
    },
    Case {
        id: "limits/concurrent",
        level: Level::Must,
        reference: "every disk of every machine under backup holds tunnels at the same time",
        title: "As many tunnels stand at once as the estate needs, each carrying bytes",
        turn: Turn::Load,
        run: |rig| under_load(rig, verdict::judge_concurrent, hold),
    },
    Case {
        id: "limits/recovers",
        level: Level::Must,
        reference: "the next backup goes through the same proxy",
        title: "After the load an ordinary CONNECT is served at once",
        turn: Turn::Load,
        run: |rig| under_load(rig, verdict::judge_recovers, |rig, way| rig.curl(&placeholder(way.door))),
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
fn under_load(rig: &Rig, judge: fn(&Load) -> Judgement, command: fn(&Rig, Way) -> String) -> Trial<'_> {
    with_way(rig, async move |way| {
        if rig.options.tunnels == 0 {
            return Judgement::not_run("no tunnels are to be held open at once");
        }
        judge(rig.load.get_or_init(|| load::measure(rig, way)).await).reproduced(command(rig, way))
    })
}

/// Holds as many tunnels for 20 seconds, and counts those that were opened.
fn hold(rig: &Rig, way: Way) -> String {
    let (wanted, curl, origin) = (rig.options.tunnels, rig.curl_command(), placeholder(way.door));
    format!(
        "for i in $(seq {wanted}); do sleep 30 | {curl} --proxytunnel --max-time 20 -w '%{{http_connect}}\\n' \
         telnet://{origin} & done 2>/dev/null | grep -c 200"
    )
}
