package overlay

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

// Sighting is how a peer was reached from a moment on.
type Sighting struct {
	At   time.Time
	Path control.Path
}

// Direct reports whether packets went to the peer itself.
func (s Sighting) Direct() bool { return s.Path.Way == control.Direct }

// Watch follows a daemon's status closely and remembers every change of a path.
// It reads what "scn status --json" prints, from where that has it: starting a
// program each time would take longer than what is to be seen.
type Watch struct {
	client *control.Client
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex // guards peers
	peers map[identity.NodeID][]Sighting
}

// Watch looks at the node's status every so often, until Close.
func (n *Node) Watch(every time.Duration) *Watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watch{
		client: control.NewClient(filepath.Join(n.Dir, "scn.sock")), cancel: cancel,
		peers: make(map[identity.NodeID][]Sighting),
	}
	w.wg.Go(func() { // ends with ctx
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			if s, err := w.client.Status(ctx); err == nil {
				w.note(time.Now(), s.Peers)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return w
}

func (w *Watch) note(now time.Time, peers []control.Peer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range peers {
		list := w.peers[p.NodeID]
		if len(list) > 0 {
			last := list[len(list)-1].Path
			if last.Way == p.Path.Way && id(last.Relay) == id(p.Path.Relay) && last.Remote == p.Path.Remote && last.Local == p.Path.Local {
				list[len(list)-1].Path = p.Path // the round trip and the reason may be news
				continue
			}
		}
		w.peers[p.NodeID] = append(list, Sighting{now, p.Path})
	}
}

// Sightings returns how a peer, by its text form, was reached, oldest first.
func (w *Watch) Sightings(node string) []Sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, list := range w.peers {
		if id.String() == node {
			return append([]Sighting(nil), list...)
		}
	}
	return nil
}

// Direct returns when a peer's path first became a direct one after a moment, and
// whether it did. A path that was there before does not count: what happened at
// that moment may have broken it.
func (w *Watch) Direct(node string, since time.Time) (time.Time, bool) {
	for _, s := range w.Sightings(node) {
		if s.Direct() && s.At.After(since) {
			return s.At, true
		}
	}
	return time.Time{}, false
}

// Now returns the newest sighting of a peer.
func (w *Watch) Now(node string) (Sighting, bool) {
	list := w.Sightings(node)
	if len(list) == 0 {
		return Sighting{}, false
	}
	return list[len(list)-1], true
}

// Close ends the watch.
func (w *Watch) Close() error {
	w.cancel()
	w.wg.Wait()
	return w.client.Close()
}

func id(n *identity.NodeID) identity.NodeID {
	if n == nil {
		return identity.NodeID{}
	}
	return *n
}
