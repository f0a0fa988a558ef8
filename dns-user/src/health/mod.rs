//! Whether the agent works, and whether it has all that it needs: set by the
//! parts of the agent, read by `/health`, `/ready` and the metrics.

mod verdict;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::answers::Transport;

/// Where the datapath stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DatapathState {
    /// Programs are to be attached, and are not yet.
    Pending,
    /// Programs answer.
    Attached,
    /// There is none: every query is answered by the sockets.
    Off,
}

/// How many links the programs are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Those that carry one.
    pub attached: usize,
    /// Those on which the kernel refuses one.
    pub failed: usize,
    /// How often one was taken off a link and put back.
    pub restored: u64,
}

/// Where queries stand that no agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FallThroughState {
    /// They are not to be sent anywhere.
    Off,
    /// They are to be sent to CoreDNS, which is not prepared yet.
    Pending,
    /// They are sent to CoreDNS.
    InPlace {
        /// Local addresses whose family no server of CoreDNS has.
        uncovered: Vec<IpAddr>,
    },
    /// They cannot be sent to CoreDNS, for this reason.
    Unavailable(String),
}

/// What the parts of the agent say of themselves.
#[derive(Debug)]
pub struct Health {
    /// Age of the lease from which on the agent counts as hung.
    lease_limit: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    synced: bool,
    sockets_open: bool,
    datapath: DatapathState,
    links: Links,
    lease_renewed_at: Option<Instant>,
    /// Another agent has what is pinned: one that this one is to follow, or that follows
    /// it.
    stands_by: bool,
    /// Until when the pipeline is to show the next sign of life.
    pipeline_due_at: Instant,
    /// When the pipeline last took in a change of the objects.
    changed_at: Option<Instant>,
    /// Names whose last change the kernel has not taken.
    names_owed: usize,
    /// Why the local addresses are not in place.
    address_trouble: Option<String>,
    /// How often they had to be put back.
    addresses_restored: u64,
    fall_through: FallThroughState,
    /// How often the nftables table had to be put back.
    tables_restored: u64,
    /// Flows that were sent to CoreDNS since this agent runs.
    flows: u64,
    /// When each of the agent's own sockets last answered it.
    answered_at: BTreeMap<(IpAddr, Transport), Instant>,
    /// When the programs last answered it.
    programs_answered_at: Option<Instant>,
}

/// How long the pipeline may be silent: it shows signs of life more often.
const PIPELINE_LIMIT: Duration = Duration::from_secs(1);
/// The same while it begins, or works on what concerns all names.
const LONG_WORK: Duration = Duration::from_secs(10);
impl Health {
    /// Returns the state at start: nothing is there yet. The agent is hung when
    /// a lease that was renewed once is not renewed within `lease_limit`.
    pub fn new(lease_limit: Duration) -> Self {
        Self {
            lease_limit,
            state: Mutex::new(State {
                synced: false,
                sockets_open: false,
                datapath: DatapathState::Pending,
                links: Links::default(),
                lease_renewed_at: None,
                stands_by: false,
                pipeline_due_at: Instant::now() + LONG_WORK,
                changed_at: None,
                names_owed: 0,
                address_trouble: None,
                addresses_restored: 0,
                fall_through: FallThroughState::Off,
                tables_restored: 0,
                flows: 0,
                answered_at: BTreeMap::new(),
                programs_answered_at: None,
            }),
        }
    }

    /// Notes whether every watched kind has been listed.
    pub fn set_synced(&self, synced: bool) {
        self.state().synced = synced;
    }

    /// Notes whether the DNS sockets are open.
    pub fn set_sockets_open(&self, open: bool) {
        self.state().sockets_open = open;
    }

    /// Notes where the datapath stands.
    pub fn set_datapath(&self, datapath: DatapathState) {
        self.state().datapath = datapath;
    }

    /// Notes how many links carry a program, and how many ought to.
    pub fn set_links(&self, attached: usize, failed: usize) {
        let links = &mut self.state().links;
        (links.attached, links.failed) = (attached, failed);
    }

    /// Notes that a program had to be put back on its link.
    pub fn count_restored_program(&self) {
        self.state().links.restored += 1;
    }

    /// Returns how many links the programs are for.
    pub fn links(&self) -> Links {
        self.state().links
    }

    /// Notes whether another agent has what is pinned, and keeps its answers up to date:
    /// one for whose end this one waits, or one that waits for the end of this one.
    pub fn set_stands_by(&self, stands_by: bool) {
        let mut state = self.state();
        state.stands_by = stands_by;
        state.pipeline_due_at = Instant::now() + LONG_WORK;
    }

    /// Notes that the datapath's lease was renewed just now.
    pub fn renew_lease(&self) {
        self.state().lease_renewed_at = Some(Instant::now());
    }

    /// Notes that the pipeline begins something that may take longer than usual.
    pub fn expect_long_work(&self) {
        self.state().pipeline_due_at = Instant::now() + LONG_WORK;
    }

    /// Notes that the pipeline works, and how many names the kernel has not taken.
    pub fn see_pipeline(&self, names_owed: usize) {
        let mut state = self.state();
        state.pipeline_due_at = Instant::now() + PIPELINE_LIMIT;
        state.names_owed = names_owed;
    }

    /// Notes that the pipeline has taken in a change of the objects.
    pub fn see_change(&self) {
        self.state().changed_at = Some(Instant::now());
    }

    /// Returns how long ago it did; None before the first time.
    pub fn change_age(&self) -> Option<Duration> {
        self.state().changed_at.map(|at| at.elapsed())
    }

    /// Notes why the local addresses are not in place, None when they are. Returns
    /// the reason if it is another one than before.
    pub fn set_address_trouble(&self, trouble: Option<String>) -> Option<String> {
        let mut state = self.state();
        let is_new = trouble.is_some() && state.address_trouble != trouble;
        state.address_trouble = trouble;
        if is_new { state.address_trouble.clone() } else { None }
    }

    /// Returns why the local addresses are not in place.
    pub fn address_trouble(&self) -> Option<String> {
        self.state().address_trouble.clone()
    }

    /// Notes that the local addresses had to be put back.
    pub fn count_restored_address(&self) {
        self.state().addresses_restored += 1;
    }

    /// Returns how often the local addresses had to be put back.
    pub fn addresses_restored(&self) -> u64 {
        self.state().addresses_restored
    }

    /// Notes where queries stand that no agent answers; says whether that is new.
    pub fn set_fall_through(&self, now: FallThroughState) -> bool {
        let mut state = self.state();
        let is_new = state.fall_through != now;
        state.fall_through = now;
        is_new
    }

    /// Returns where queries stand that no agent answers.
    pub fn fall_through(&self) -> FallThroughState {
        self.state().fall_through.clone()
    }

    /// Notes that the nftables table had to be put back.
    pub fn count_restored_table(&self) {
        self.state().tables_restored += 1;
    }

    /// Returns how often the nftables table had to be put back.
    pub fn tables_restored(&self) -> u64 {
        self.state().tables_restored
    }

    /// Notes that so many more flows were sent to CoreDNS.
    pub fn count_flows(&self, flows: u64) {
        self.state().flows += flows;
    }

    /// Returns how many flows were sent to CoreDNS since this agent runs.
    pub fn flows(&self) -> u64 {
        self.state().flows
    }

    /// Notes that the agent's socket on `ip` has answered the agent itself.
    pub fn see_answer(&self, ip: IpAddr, transport: Transport) {
        self.state().answered_at.insert((ip, transport), Instant::now());
    }

    /// Notes that the programs have answered the agent itself.
    pub fn see_programs(&self) {
        self.state().programs_answered_at = Some(Instant::now());
    }

    /// Notes that the programs have nothing to answer the agent.
    pub fn forget_programs(&self) {
        self.state().programs_answered_at = None;
    }

    /// Returns the number of names whose last change the kernel has not taken.
    pub fn names_owed(&self) -> usize {
        self.state().names_owed
    }

    /// Says whether every watched kind has been listed.
    pub fn is_synced(&self) -> bool {
        self.state().synced
    }

    /// Returns how long ago the lease was renewed; None before the first time.
    pub fn lease_age(&self) -> Option<Duration> {
        self.state().lease_renewed_at.map(|at| at.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
