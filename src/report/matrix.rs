//! Targets by route: the table that text, Markdown and HTML show.

use std::collections::{BTreeMap, HashMap};

use super::words;
use crate::model::{Assessment, Cell, CellStatus, Host, Record, Route, Target};

/// Host groups shown when there are many.
const MAX_GROUPS: usize = 20;

/// Rows shown when there are many: one host may have thousands of ports.
const MAX_ROWS: usize = 60;

/// The table.
pub(super) struct Matrix<'a> {
    /// Columns.
    pub(super) routes: Vec<Route>,
    /// One group per host.
    pub(super) groups: Vec<Group<'a>>,
    /// What is left out, in words; `None` when nothing is.
    pub(super) rest: Option<String>,
}

/// The rows of one host.
pub(super) struct Group<'a> {
    /// The host.
    pub(super) host: &'a Host,
    /// One row per target.
    pub(super) rows: Vec<Row<'a>>,
}

/// One target.
pub(super) struct Row<'a> {
    /// The target.
    pub(super) target: &'a Target,
    /// What tells it from other rows of the same port (a path, a scheme); mostly nothing.
    pub(super) apart: String,
    /// One per route; `None` where the judgement has no cell.
    pub(super) cells: Vec<Option<&'a Cell>>,
}

impl<'a> Matrix<'a> {
    /// The whole table, or its most telling part when there are many rows and `all` is not set.
    pub(super) fn new(record: &'a Record, assessment: &'a Assessment, all: bool) -> Self {
        let routes = routes(record, assessment);
        let mut groups = groups(record, assessment, &routes);
        let rows: usize = groups.iter().map(|group| group.rows.len()).sum();
        let rest = (!all && (groups.len() > MAX_GROUPS || rows > MAX_ROWS)).then(|| cut(&mut groups)).flatten();
        Self { routes, groups, rest }
    }

    /// Whether there is nothing to show.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty() || self.routes.is_empty()
    }
}

impl Row<'_> {
    /// Its worst cell decides where a row stands.
    fn rank(&self) -> Rank {
        self.cells.iter().flatten().map(|cell| rank(cell)).min().unwrap_or(Rank::Ok)
    }

    /// What the row comes down to, for counting alike rows.
    fn outcome(&self) -> String {
        let worst = self.cells.iter().flatten().min_by_key(|cell| rank(cell));
        match worst.map(|cell| cell.status) {
            Some(CellStatus::Error(code) | CellStatus::Warning(code)) => code.to_string(),
            Some(CellStatus::NotRun) => "not run".into(),
            Some(CellStatus::Ok) | None => "ok".into(),
        }
    }
}

/// The order in which rows are worth showing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Error,
    NotRun,
    Warning,
    Ok,
}

fn rank(cell: &Cell) -> Rank {
    match cell.status {
        CellStatus::Error(_) => Rank::Error,
        CellStatus::NotRun => Rank::NotRun,
        CellStatus::Warning(_) => Rank::Warning,
        CellStatus::Ok => Rank::Ok,
    }
}

fn routes(record: &Record, assessment: &Assessment) -> Vec<Route> {
    [Route::Direct, Route::Proxy]
        .into_iter()
        .filter(|route| record.context.routes.contains(route) || assessment.cells.iter().any(|c| c.route == *route))
        .collect()
}

fn groups<'a>(record: &'a Record, assessment: &'a Assessment, routes: &[Route]) -> Vec<Group<'a>> {
    let cells: HashMap<(usize, Route), &Cell> = assessment.cells.iter().map(|c| ((c.target, c.route), c)).collect();
    let mut same_port: HashMap<(&Host, u16), usize> = HashMap::new();
    for target in &record.targets {
        *same_port.entry((&target.host, target.port)).or_default() += 1;
    }
    let mut order: Vec<Group<'a>> = Vec::new();
    let mut place: HashMap<&Host, usize> = HashMap::new();
    for (index, target) in record.targets.iter().enumerate() {
        let at = *place.entry(&target.host).or_insert_with(|| {
            order.push(Group { host: &target.host, rows: Vec::new() });
            order.len() - 1
        });
        let alone = same_port.get(&(&target.host, target.port)).is_none_or(|&n| n == 1);
        let apart = match target.path.as_str() {
            _ if alone => String::new(),
            "/" => format!(" {}", target.scheme.as_str()),
            path => path.to_owned(),
        };
        let cells = routes.iter().map(|&route| cells.get(&(index, route)).copied()).collect();
        order[at].rows.push(Row { target, apart, cells });
    }
    order
}

/// Keeps the worst groups and rows, in the order asked for among equals, and says what was left out.
fn cut(groups: &mut Vec<Group<'_>>) -> Option<String> {
    for group in groups.iter_mut() {
        group.rows.sort_by_key(Row::rank);
    }
    groups.sort_by_key(|group| group.rows.first().map_or(Rank::Ok, Row::rank));
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    let mut room = MAX_ROWS;
    for (index, group) in groups.iter_mut().enumerate() {
        let keep = if index < MAX_GROUPS { room.min(group.rows.len()) } else { 0 };
        room -= keep;
        for row in group.rows.drain(keep..) {
            *left.entry(row.outcome()).or_default() += 1;
        }
    }
    groups.retain(|group| !group.rows.is_empty());
    let total: usize = left.values().sum();
    if total == 0 {
        return None;
    }
    let mut outcomes: Vec<_> = left.into_iter().collect();
    outcomes.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    let shown: Vec<String> = match outcomes.as_slice() {
        [(outcome, _)] => vec![format!("all {outcome}")],
        many => many.iter().take(6).map(|(outcome, n)| format!("{} {outcome}", words::count(*n))).collect(),
    };
    let dots = if outcomes.len() > 6 { ", …" } else { "" };
    Some(format!("… and {}: {}{dots}", words::plural(total, "more target"), shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{classify::codes, report::fixtures};

    #[test]
    fn of_many_the_worst_come_first_and_the_rest_is_counted_by_outcome() {
        let mut case = fixtures::many();
        for (index, cell) in case.assessment.cells.iter_mut().enumerate() {
            cell.status = match index {
                5_000..5_030 => CellStatus::Warning(codes::HTTP_SLOW),
                5_030..5_033 => CellStatus::NotRun,
                5_033..5_040 => CellStatus::Error(codes::TCP_REFUSED),
                _ => CellStatus::Ok,
            };
        }
        let matrix = Matrix::new(&case.record, &case.assessment, false);
        let shown: Vec<String> = matrix.groups.iter().map(|group| group.rows[0].outcome()).collect();
        assert_eq!(shown[..7], ["tcp.refused"; 7]);
        assert_eq!(shown[7..10], ["not run"; 3]);
        assert_eq!(shown[10..], ["http.slow"; 10]);
        assert_eq!(matrix.rest.as_deref(), Some("… and 9,980 more targets: 9,960 ok, 20 http.slow"));
    }

    #[test]
    fn few_are_shown_whole_in_the_order_asked_for() {
        let case = fixtures::blocked();
        let matrix = Matrix::new(&case.record, &case.assessment, false);
        let ports: Vec<u16> = matrix.groups[0].rows.iter().map(|row| row.target.port).collect();
        assert_eq!((ports, matrix.rest), (vec![80, 443, 8443], None));
        assert_eq!(matrix.routes, [Route::Direct, Route::Proxy]);
    }
}
