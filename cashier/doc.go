// Package cashier keeps the ledger of a network: an append-only, hash-chained
// book of signed transactions about names and money. Whoever registers a name
// first has it, and nobody but its owner changes it; nobody spends what is not his,
// or spends it twice.
//
// # Model
//
// One pure state machine decides everything:
//
//	Apply(state, block) → results, changes
//
// It uses integers only; it has no clock, no goroutine, no I/O and iterates over
// no map, so the same blocks give the same rows, and the same app hash, on every machine. A
// transaction is an operation (Register, Update, Offer, Accept, Release,
// SetParameters, Transfer, Issue, Redeem, OpenChannel and so on) in an envelope signed by an account, for
// one network. A name points at a service only with the consent of that service's
// own key, and changes hands in two steps: its owner offers it, the other account
// accepts.
//
// # Money
//
// Amounts are whole micro-credits (package voucher). An account has four counters,
// debits and credits, each pending and posted; money moves by adding one amount to
// the debits of one account and to the credits of another, so all debits together
// equal all credits, always. A Transfer makes up to sixteen movements, all or none:
// it pays, reserves (a two-phase transfer, see hold.go), posts or voids what was
// reserved. Money comes from the supply account when the issuer issues it, up to a
// cap, and goes back there when it is redeemed. After every movement the machine
// asserts what must hold of it; a broken rule stops the ledger, with the evidence.
//
// Ledger is the embedded engine around the machine: one process, one goroutine
// that gathers waiting transactions into a block, one Pebble store, one fsync per
// block before any of its submitters is answered. It signs name records
// (naming/name) with the authority's key; records travel in the DHT, so names
// resolve while the authority is down. Server and Client speak HTTP/1.1 with
// CBOR bodies over any net.Listener and any dialled net.Conn. Wallet builds and
// signs transactions and numbers them.
//
// # Names
//
// A name is held for a term that is paid for, and kept for its owner for a while
// after; see lease.go. Where the founder set a reveal delay, it is asked for in two
// steps, CommitName and RevealName, so that nobody who sees somebody ask for a name
// can be quicker; see commit.go. While no delay is set, which is what a new network
// begins with, Register does it in one: the authority of such a network orders the
// blocks itself and sees names only in the block it makes, and a newcomer waits for
// one fsync and no tick.
//
// # Stakes, keys, bindings
//
// Stake and Unstake put money aside as a pledge and take it back, after a time;
// StakeAccount, UnbondingAccount and NamesAccount (of deposits) are accounts nobody
// can sign for or pay into, and have what the rows add up to, always. RotateKey and
// Recover change which key signs for an account, whose ID stays; authorise in keys.go
// is the one place that judges it. Bind says which node and service an account speaks
// from, under the signatures of all three.
//
// # Channels
//
// A client pays a provider through a channel (channel.go): it puts a deposit into
// escrow on the ledger once, and then signs vouchers, which the ledger never sees but
// for the last. A PostAsk says what a service costs on a node, with the consent of
// both; a channel keeps the price it was opened at. SettleChannel and SettleBatch pay
// what a voucher is above what was paid, to the provider, less a fee and what vests
// (vesting.go). A channel ends by both parties at once, by its client after a grace in
// which the provider may settle, or when it expires; what is left goes back.
//
// Deadlines of channels run by the time the ledger ran, not by the clock: a block that
// comes more than an epoch and two looks after the one before it ends a halt, and the
// whole gap moves every deadline on; see marketRow. EscrowAccount
// and VestingAccount have what open channels have left and what vests, always.
//
// # Inspection
//
// Inspectors (AdmitInspector) visit providers (ListProvider, PostAsk) and report: they
// commit in an epoch and show in the next (CommitReport, RevealReport), and are asked for
// rows (ChallengeReport, AnswerChallenge). The arithmetic is that of package evidence; see
// inspection.go for who may say what when. What vests for a provider is paid by its
// score, and the rest is burnt; inspectors are paid from a fee on settlements, which
// InspectionAccount holds. While Parameters.InspectorStake is 0 there is none of it.
//
// # Blocks
//
//	header   version of the rules, network, height, previous block's hash, time,
//	         app hash before the block, hash of the transactions
//	body     the signed transactions, as received
//
// The hash of a block is SHA-256 over a domain and its encoded header. The hash of
// the transactions is the root of an RFC 6962 log of them, so that each can be shown
// to be in its block.
//
// The app hash after a block is SHA-256 over its height, the roots of five sparse
// Merkle trees (names, accounts, services, channels, parameters), the root of an
// RFC 6962 log of all blocks' hashes, and a chain of the changes of all other rows:
// every row is under it. Under the first two rules it is SHA-256 over the app hash
// before the block and every row the block changed, in order of keys. A Checkpoint is
// the app hash with all it is made of, signed by the authority; whoever has one needs
// no ledger to check what he is told (package tree).
//
// # Store
//
//	m/format         version of this layout, 8 bytes big endian
//	m/genesis        what the ledger began with: parameters, rules, balances
//	m/head           height, block hash, app hash, time and network of the newest
//	                 block, and the hash of m/genesis
//	m/base           where a pruned ledger begins: the snapshot of that height, signed
//	m/fork/<height><time>  statement that the ledger goes on from an older state, signed
//	b/<height>       block, height 8 bytes big endian
//	l/<level><index> node of the log of blocks: 1 byte, 8 bytes big endian
//	s/a<account>     account: last sequence, number of names
//	s/i<transaction> where an accepted transaction is: height, index
//	s/n<name>        name: owner, service, offer, height, the owner's transaction
//	s/o<account><name>  the names of an account
//	s/p              parameters
//	s/b<account>     money of an account: its four counters
//	s/u              totals over all accounts, issued, redeemed
//	s/t<account><id> transfer ID already used: content, height, index, next due
//	s/h<account><id><n>  reserved amount: state, payee, amount, expiry, next due
//	s/d<time>        what falls due in 16 seconds: the first row of a list
//	s/q              which lists are left
//	s/c              the newest block's time, seconds halted, totals of channels
//	s/c<channel>     channel: parties, price, deposit, settled, deadlines, next due
//	s/c<account><channel>  the channels of an account
//	s/k<service><half of the node>  ask: current, announced, next due
//	s/v<account><time>  what is paid to an account at a time: amount, next due
//	s/m              deposits of all commits together
//	s/m<account><id> commit: hash, deposit, where and when, revealed, next due
//	s/x              when leases began
//	s/x<name's hash><id>  lease of a name: the name, next due
//	s/g              stakes of all accounts together
//	s/g<account>     stake of an account: staked, unbonding, how many amounts
//	s/g<account><id> amount that unbonds: amount, since, due, next due
//	s/y<account>     keys of an account: its key, recovery account, recovery
//	s/y<account><id> recovery under way: next due
//	s/e<node><service>  binding: account, height, time
//	s/f              inspection: epoch, how many of what, pool, what is being judged
//	s/f<epoch>       epoch of inspection: seed, size of its roster, what was reported
//	s/fk<hash>       canary: the epoch it was committed to in
//	s/wi<account>    inspector: admission, from and to when, conduct
//	s/ws<slot>       the account of an inspector
//	s/l<service><node>  provider: what is inspected, and its standing
//	s/rs<slot>       the service and node of a provider
//	s/rm<service><node>  what was settled to it lately
//	s/re<epoch><n>   256 providers of a frozen roster
//	s/jc<epoch><account>  commit to a report, and which one it became
//	s/jr<epoch><n>   report: inspector, output, outcomes, challenges
//	s/jv<service><node><operator>  what an operator saw of a provider
//
// A block, its changes and the head are one atomic write. Everything below s/ is
// a function of the blocks; Verify recomputes it and compares.
//
// # At most once
//
// A transaction about names has a sequence number that only grows within its
// account, and is identified by what was signed. One about money has an ID its
// signer chose, and a ValidUntil at most 24 hours ahead, after which the ID is
// forgotten. Submitting one again that was accepted gives the first answer; so a
// client whose connection broke simply submits again. A transaction that was
// rejected left no trace and may be judged differently later; ValidUntil bounds that.
//
// # Rules
//
// The rules have a version, which stands in each block and changes at a height
// stated beforehand; blocks are judged by the rules of their time for ever. Version
// 1 knows names, version 2 money as well, version 3 the market: channels, asks and
// what they rest on.
//
// # What it does not do
//
// It meters nothing and decides nothing about prices (packages meter and spending), has
// one authority and no consensus, and dials and publishes nothing by itself: callers
// give it connections and fetch its records.
//
// # Proofs
//
// Server answers for names, accounts and channels with the rows the answer rests on, each proved
// present or absent under a checkpoint signed a moment ago, and Client verifies them:
// what it returns is what the app hash commits to. It keeps the newest checkpoint it
// has seen and takes none that does not continue it (ErrRollback, ErrFork) or is older
// than an hour (ErrStale). An *AnswerError names who answered. Proofs are of what is on
// the disk, made beside the engine and without holding it up.
//
// # Concurrency
//
// Ledger, Server, Client and Wallet are safe for concurrent use.
package cashier
