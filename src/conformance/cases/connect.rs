//! CONNECT: which ports, which forms of the request, which hosts.

use crate::{
    conformance::{
        case::{Case, Judgement, Level, Remedy, Trial, Turn, Unit},
        rig::{Rig, code, heard},
    },
    exchange::{DoorKind, Exchange},
    model::Observation,
    probe::dialogue::Seen,
};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "connect/port-443",
        level: Level::Must,
        reference: "RFC 9110 section 9.3.6; encrypted disks go to port 443",
        title: "CONNECT to port 443 opens a tunnel that carries bytes both ways",
        turn: Turn::Together,
        run: |rig| port(rig, 443),
    },
    Case {
        id: "connect/port-8443",
        level: Level::Must,
        reference: "RFC 9110 section 9.3.6; managed disks go to port 8443",
        title: "CONNECT to port 8443 opens a tunnel that carries bytes both ways",
        turn: Turn::Together,
        run: |rig| port(rig, 8443),
    },
];

fn port(rig: &Rig, port: u16) -> Trial<'_> {
    Box::pin(async move {
        let Some(door) = rig.door(DoorKind::Serves, Some(port)) else { return vec![rig.missing(port)] };
        let mut dialogue = rig.tunnel_to(door).await;
        let opened = dialogue.is_open();
        let proved = dialogue.exchange(Exchange::Integrity { bytes: 512 }, rig.seed(), 0).await
            // Where nothing but TLS may pass, the survey has shown that TLS does.
            || opened && rig.open.iter().any(|way| way.door == door && way.tls);
        vec![judge_port(port, proved, dialogue.finish())]
    })
}

fn judge_port(port: u16, proved: bool, seen: Observation) -> Judgement {
    let ms = seen.tunnel_ms();
    let judgement = if proved {
        Judgement::pass(format!("a tunnel to port {port} carries bytes both ways"))
    } else if seen.reply().is_some_and(crate::http::Reply::is_success) {
        Judgement::fail(format!("the proxy says that a tunnel to port {port} stands, and it carries nothing"))
    } else {
        Judgement::fail(format!("no tunnel to port {port}"))
            .because(heard(&seen))
            .remedy(Remedy::AllowPorts { ports: vec![port] })
    };
    let judgement = judgement.code(code(&seen).filter(|_| !proved)).seen([seen]);
    match ms {
        Some(ms) => judgement.figure("connect", ms, Unit::Ms),
        None => judgement,
    }
}
