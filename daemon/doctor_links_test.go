package daemon

import (
	"strings"
	"testing"
	"testing/fstest"
)

const twoDefaultRoutes = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101A8C0	0003	0	0	100	00000000	0	0	0
wwan0	00000000	0103000A	0003	0	0	700	00000000	0	0	0
eth0	0001A8C0	00000000	0001	0	0	100	00FFFFFF	0	0	0
`

func TestDoctorSeesStrictFilter(t *testing.T) {
	proc := func(all, eth, wwan string) fstest.MapFS {
		return fstest.MapFS{
			"net/route":                         {Data: []byte(twoDefaultRoutes)},
			"sys/net/ipv4/conf/all/rp_filter":   {Data: []byte(all + "\n")},
			"sys/net/ipv4/conf/eth0/rp_filter":  {Data: []byte(eth + "\n")},
			"sys/net/ipv4/conf/wwan0/rp_filter": {Data: []byte(wwan + "\n")},
		}
	}
	for _, c := range []struct {
		all, eth, wwan, advice string
		state                  State
	}{
		{"0", "0", "0", "", Good},
		{"2", "1", "1", "", Good},
		{"1", "2", "0", "sysctl -w net.ipv4.conf.wwan0.rp_filter=2", Poor},
		{"0", "1", "1", "sysctl -w net.ipv4.conf.eth0.rp_filter=2 net.ipv4.conf.wwan0.rp_filter=2", Poor},
	} {
		if f := checkReversePath(proc(c.all, c.eth, c.wwan)); f.State != c.state || f.Advice != c.advice {
			t.Errorf("%+v: %+v", c, f)
		}
	}
	if f := checkReversePath(fstest.MapFS{}); f.State != Good {
		t.Errorf("without routes: %+v", f)
	}
}

func TestDoctorSeesGateway(t *testing.T) {
	proc := fstest.MapFS{
		"sys/net/ipv4/conf/br-lan/forwarding":  {Data: []byte("1\n")},
		"sys/net/ipv4/conf/docker0/forwarding": {Data: []byte("0\n")},
		"sys/net/ipv6/conf/all/forwarding":     {Data: []byte("0\n")},
	}
	if got := checkGateway(proc, GatewaySettings{}, true); got != nil {
		t.Errorf("without a gateway: %+v", got)
	}
	var states []string
	for _, f := range checkGateway(proc, GatewaySettings{Interfaces: []string{"br-lan", "docker0", "late0"}}, true) {
		states = append(states, string(f.State))
	}
	if got, want := strings.Join(states, " "), "warn ok FAIL warn warn"; got != want {
		t.Errorf("found %s, want %s", got, want)
	}
}
