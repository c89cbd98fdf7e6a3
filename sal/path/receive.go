package path

func (m *Machine) onReceived(route Route, datagram []byte) {
	counter, ok := m.header(datagram)
	if !ok {
		m.metrics.Malformed++
		return
	}
	if !m.window.fresh(counter) && !m.cfg.without.replayWindow {
		m.metrics.Replayed++
		return
	}
	plain, err := m.receive.open(m.scratch.plain[:0], counter, datagram, &m.scratch.nonce)
	if err != nil {
		m.metrics.Forged++
		return
	}
	m.window.accept(counter)
	msg, err := parseMessage(plain)
	route = m.localize(route)
	if err != nil || !usableRemote(route.Remote) || !pairs(route.Link, route.Remote) {
		m.metrics.Malformed++
		return
	}
	m.metrics.Received++
	p := m.implicitPair(route, false)
	if p == nil {
		return
	}
	p.heard = m.now
	p.peerCost = msg.state.class.cost()
	if p.address == nil {
		p.address = m.addAddress(route.Remote, false)
	}
	if p.address != nil {
		p.address.received(m.now, len(datagram))
		if !p.address.isProved(m.now) {
			p.attempts = 0 // what came pays for asking again soon
		}
	}
	if msg.state.seen <= m.ownSeq {
		m.ownSeen = max(m.ownSeen, msg.state.seen)
	}
	m.claimed(p, counter, msg.state)
	if msg.contains(kindEcho) {
		m.onEcho(p, msg.echo)
	}
	if m.cfg.without.challenge {
		m.validated(p)
	}
	if msg.contains(kindLocators) {
		m.onTold(&msg.locators)
	}
	if msg.contains(kindProbeEcho) && p.mtu.echoed(m.now, msg.probeEcho.nonce, int(msg.probeEcho.size)) && p == m.current {
		m.emit(m.use(false))
	}
	m.follow()
	m.heardAuthentic()
	m.reply(p, &msg)
}

// onEcho proves a pair, if the nonce is one sent there.
func (m *Machine) onEcho(p *pair, e echo) {
	sent, ok := p.asking.answered(m.now, e.nonce)
	if !ok {
		return
	}
	p.rtt.add(m.now, m.now.Sub(sent))
	m.seenAs(p, e.observed)
	m.validated(p)
}

// reply answers what asks for an answer, and asks back if the pair is not proved.
func (m *Machine) reply(p *pair, in *message) {
	var out message
	if in.contains(kindChallenge) {
		e := echo{nonce: in.challenge.nonce}
		if p.way != wayRelayed {
			e.observed = p.route.Remote
		}
		out.addEcho(e)
	}
	if in.contains(kindProbe) {
		out.addProbeEcho(probeEcho(in.probe))
	}
	if out.has == 0 {
		// Something new to acknowledge must not wait for the next challenge.
		if in.contains(kindLocators) {
			m.transmit(p, &out)
		}
		return
	}
	if m.wantsProof(p) {
		out.addChallenge(challenge{nonce: m.nonces.Uint64()})
	}
	if !m.transmit(p, &out) {
		return
	}
	if out.contains(kindChallenge) {
		p.due = m.now.Add(max(m.patience(p), retryLeast))
	}
}

// seenElsewhere reports whether a question of the peer may mean that it sees us at
// another address than before: where a NAT gives us other ones, this is the first we
// hear of it, and others are waiting to be told. Asking back costs no packet.
func (m *Machine) seenElsewhere(p *pair) bool {
	return p.way == wayDirect && p.observed.IsValid() && p.observed.Addr().Unmap() != p.route.Local.Unmap() &&
		m.now.Sub(p.validated) > askBack
}

// wantsProof reports whether a challenge should ride on an answer on p.
func (m *Machine) wantsProof(p *pair) bool {
	if m.now.Sub(p.challenged) < retryLeast && p.attempts > 0 {
		return false
	}
	switch {
	case p.address == nil || !p.address.isProved(m.now), p.validated.IsZero():
		return true
	case m.mode == searching:
		return true
	case m.seenElsewhere(p):
		return true
	case p == m.current:
		return m.mode == checking || m.unsettled()
	default:
		return m.claim.route == p.route && m.now.Sub(p.validated) > claimFreshness
	}
}

func (m *Machine) onUnknownAddress(route Route, size int) {
	route = m.localize(route)
	if size <= 0 || !usableRemote(route.Remote) || !pairs(route.Link, route.Remote) {
		return
	}
	p := m.implicitPair(route, true)
	if p == nil {
		return
	}
	if p.address == nil {
		p.address = m.addAddress(route.Remote, true)
	}
	p.heard = m.now
	if p.address != nil {
		p.address.received(m.now, size)
	}
	if m.cfg.without.challenge {
		m.validated(p)
	}
	if (p.due.IsZero() || p.due.Sub(m.now) > urgentCap) && m.now.Sub(p.challenged) > urgentCap {
		p.restart(m.now)
	}
}
