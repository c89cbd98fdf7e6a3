package reach

import (
	"net/netip"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
)

// A flood is what it says: many packets, of all sorts, from many addresses.
func TestFlood(t *testing.T) {
	w := plainWorld(t)
	mob, target := w.Lab.Host("mob"), w.Lab.Host("target")
	mob.Attach(w.core, 6)
	target.Attach(w.core, 7)
	c, err := target.ListenPacket("udp4", ":47700")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := newFlood(t.Context(), mob, identity.NewKeyFromSeed([32]byte{1}).Node())
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	f.start(netip.MustParseAddrPort("51.0.0.7:47700"), 5000)
	sources, kinds, initials := make(map[string]bool), make(map[byte]int), 0
	buf := make([]byte, 2048)
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			break
		}
		sources[from.String()] = true
		kinds[buf[0]]++
		if n >= 1200 && buf[0]&0xf0 == 0xc0 {
			initials++
		}
	}
	sent := f.end()
	t.Logf("%d packets from %d addresses: %d to forward, %d first packets of handshakes, %d path messages", sent, len(sources), kinds[4], initials, kinds[1])
	if len(sources) < Strangers*9/10 || kinds[4] < 100 || kinds[1] < 100 || initials < 100 {
		t.Errorf("%d addresses, %d to forward, %d path messages, %d handshakes", len(sources), kinds[4], kinds[1], initials)
	}
}
