//! Which finding a failure is.

use crate::{
    azure,
    classify::{self, codes},
    http::Reply,
    model::{Code, Evidence, Failure, FailureKind, Leg, Observation, Redactor, RequestEvidence, Step},
};

/// A failure by its code, and what it was like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) example: String,
}

impl Fault {
    /// Of a connection that did not come about.
    pub(super) fn of(observation: &Observation) -> Self {
        let code = classify::alone(observation).unwrap_or(codes::META_UNCLASSIFIED);
        let last = observation.steps.last();
        let example = match last.and_then(|step| Some((step, step.failure.as_ref()?))) {
            Some((step, failure)) => format!("{}: {}", step.layer(), failure.raw),
            // What a peer showed and this side does not accept: a certificate.
            None => last.map_or_else(String::new, |step| format!("{}: not trusted", step.layer())),
        };
        Self { code, example }
    }

    /// Of a request that got no answer, or not the one that the workload needs. `by_proxy`: it was made to a proxy, which may
    /// have answered for itself.
    pub(super) fn of_request(
        mut observation: Observation,
        request: RequestEvidence,
        failure: Option<Failure>,
        by_proxy: bool,
        redactor: &Redactor,
    ) -> Self {
        let status = request.reply.as_ref().map(Reply::status_line);
        let mut example = failure.as_ref().map(|failure| failure.raw.clone()).or(status).unwrap_or_default();
        redactor.scrub(&mut example);
        if let Some(reply) =
            request.reply.as_ref().filter(|reply| by_proxy && reply.status >= 400 && classify::is_proxys(reply))
        {
            return Self { code: classify::answer(reply), example: format!("proxy: {example}") };
        }
        let evidence = Evidence::Request(Box::new(request));
        observation.steps.push(Step { leg: Leg::Origin, start_us: 0, elapsed_us: 0, evidence, failure });
        // An answer that is in order as such, and still not the payload.
        let code = classify::alone(&observation).unwrap_or(codes::TRANSFER_REFUSED);
        Self { code, example: format!("request: {example}") }
    }

    /// What an answer is, if not in order: judged by itself, and an error of anybody but storage, whose errors prove that it
    /// is there.
    pub(super) fn of_answer(mut observation: Observation, request: RequestEvidence) -> Option<Code> {
        let is_error =
            request.reply.as_ref().is_some_and(|reply| reply.status >= 400 && !azure::storage::is_storage_reply(reply));
        let evidence = Evidence::Request(Box::new(request));
        observation.steps.push(Step { leg: Leg::Origin, start_us: 0, elapsed_us: 0, evidence, failure: None });
        classify::alone(&observation).or(is_error.then_some(codes::TRANSFER_REFUSED))
    }

    /// Of payload that did not arrive whole.
    pub(super) fn of_transfer(failure: &Failure) -> Self {
        let code = match failure.kind {
            FailureKind::TimedOut => codes::TRANSFER_STALLED,
            FailureKind::Closed | FailureKind::Truncated => codes::TRANSFER_TRUNCATED,
            FailureKind::Differs => codes::TRANSFER_CORRUPTED,
            _ => codes::TRANSFER_BROKEN,
        };
        Self { code, example: format!("transfer: {}", failure.raw) }
    }
}
