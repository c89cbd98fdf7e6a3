package portmap

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// router is a gateway on an address of its own on loopback. It speaks what its
// fields say.
type router struct {
	t       *testing.T
	at      netip.Addr
	outside netip.Addr

	mu        sync.Mutex // guards below
	pcp, pmp  bool
	upnp      bool
	permanent bool                         // UPnP without leases
	taken     map[uint16]bool              // outside ports of somebody else
	mapped    map[uint16]uint16            // outside port by inside port
	nonces    map[uint16][12]byte          // PCP's
	asked     map[string]int               // requests by protocol
	lie       func(answer []byte) [][]byte // replaces a PCP answer
	location  string                       // replaces where the description is
	describe  string                       // replaces the description
}

func newRouter(t *testing.T, outside string) *router {
	t.Helper()
	r := &router{
		t: t, outside: netip.MustParseAddr(outside), taken: map[uint16]bool{},
		mapped: map[uint16]uint16{}, nonces: map[uint16][12]byte{}, asked: map[string]int{},
	}
	for range 50 {
		r.at = netip.AddrFrom4([4]byte{127, byte(1 + rand.IntN(250)), byte(rand.IntN(250)), byte(2 + rand.IntN(250))})
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.at, pcpPort)))
		if err != nil {
			continue
		}
		r.serve(c, r.answer)
		return r
	}
	t.Fatal("no free address with port 5351 on loopback")
	return nil
}

// serve answers datagrams until the test ends.
func (r *router) serve(c *net.UDPConn, answer func(request []byte) [][]byte) {
	var wg sync.WaitGroup
	wg.Go(func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			r.mu.Lock()
			answers := answer(buffer[:n])
			r.mu.Unlock()
			for _, a := range answers {
				_, _ = c.WriteToUDPAddrPort(a, from)
			}
		}
	})
	r.t.Cleanup(func() { _ = c.Close(); wg.Wait() })
}

// assign picks an outside port.
func (r *router) assign(internal, wanted uint16) uint16 {
	if old, ok := r.mapped[internal]; ok {
		return old
	}
	for wanted == 0 || r.taken[wanted] {
		wanted += 100
	}
	r.mapped[internal] = wanted
	return wanted
}

// answer speaks PCP and NAT-PMP (RFC 6887, RFC 6886), as the RFCs have it.
func (r *router) answer(q []byte) [][]byte {
	switch {
	case len(q) == 60 && q[0] == 2 && q[1] == 1 && r.pcp:
		r.asked["pcp"]++
		a := make([]byte, 60)
		copy(a, q)
		a[1] |= 0x80
		clear(a[2:24])
		life := binary.BigEndian.Uint32(q[4:])
		internal, wanted := binary.BigEndian.Uint16(q[40:]), binary.BigEndian.Uint16(q[42:])
		nonce := [12]byte(q[24:36])
		old, known := r.nonces[internal]
		switch {
		case netip.AddrFrom16([16]byte(q[8:24])).Unmap() != netip.MustParseAddr("127.0.0.1"):
			a[3] = 12 // ADDRESS_MISMATCH
		case known && old != nonce:
			a[3] = 2 // NOT_AUTHORIZED
		case life == 0:
			delete(r.mapped, internal)
			delete(r.nonces, internal)
		default:
			r.nonces[internal] = nonce
			binary.BigEndian.PutUint32(a[4:], life)
			binary.BigEndian.PutUint16(a[42:], r.assign(internal, wanted))
			outside := r.outside.As16()
			copy(a[44:], outside[:])
		}
		if r.lie != nil {
			return r.lie(a)
		}
		return [][]byte{a}
	case q[0] == 2 && r.pmp: // unsupported version
		return [][]byte{{0, 0x80 | q[1], 0, 1, 0, 0, 0, 9}}
	case len(q) == 2 && q[0] == 0 && q[1] == 0 && r.pmp:
		outside := r.outside.As4()
		return [][]byte{append([]byte{0, 128, 0, 0, 0, 0, 0, 9}, outside[:]...)}
	case len(q) == 12 && q[0] == 0 && q[1] == 1 && r.pmp:
		r.asked["nat-pmp"]++
		internal, wanted, life := binary.BigEndian.Uint16(q[4:]), binary.BigEndian.Uint16(q[6:]), binary.BigEndian.Uint32(q[8:])
		a := []byte{0, 129, 0, 0, 0, 0, 0, 9}
		a = binary.BigEndian.AppendUint16(a, internal)
		if life == 0 {
			delete(r.mapped, internal)
			return [][]byte{append(a, 0, 0, 0, 0, 0, 0)}
		}
		a = binary.BigEndian.AppendUint16(a, r.assign(internal, wanted))
		return [][]byte{binary.BigEndian.AppendUint32(a, life)}
	}
	return nil
}

// serveUPnP adds discovery, description and control.
func (r *router) serveUPnP() {
	r.t.Helper()
	search, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.at, ssdpPort)))
	if err != nil {
		r.t.Fatalf("port 1900 of %s: %v", r.at, err)
	}
	l, err := net.Listen("tcp4", netip.AddrPortFrom(r.at, 0).String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.serve(search, func(q []byte) [][]byte {
		if !strings.HasPrefix(string(q), "M-SEARCH * HTTP/1.1\r\n") || !r.upnp {
			return nil
		}
		at := r.location
		if at == "" {
			at = "http://" + l.Addr().String() + "/root.xml"
		}
		return [][]byte{fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"+
			"USN: uuid:1\r\nLocation: %s\r\n\r\n", at)}
	})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /root.xml", func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		text := description
		if r.describe != "" {
			text = r.describe
		}
		_, _ = io.WriteString(w, text)
	})
	mux.HandleFunc("POST /control", r.control)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	r.t.Cleanup(func() { _ = server.Close(); wg.Wait() })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.upnp = true
}

const description = `<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device>
 <deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
 <deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
  <deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
   <serviceList><service>
    <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
    <serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
    <SCPDURL>/scpd.xml</SCPDURL><controlURL>/control</controlURL><eventSubURL>/event</eventSubURL>
   </service></serviceList>
  </device></deviceList>
 </device></deviceList>
</device></root>`

var argument = regexp.MustCompile(`<(New\w+)>([^<]*)</`)

// control answers SOAP.
func (r *router) control(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	args := map[string]string{}
	for _, m := range argument.FindAllStringSubmatch(string(body), -1) {
		args[m[1]] = m[2]
	}
	action := strings.Trim(q.Header.Get("SOAPAction"), `"`)
	_, action, _ = strings.Cut(action, "#")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked["upnp"]++
	port := func(name string) (n uint16) { _, _ = fmt.Sscan(args[name], &n); return n }
	out, fault := "", 0
	switch action {
	case "GetExternalIPAddress":
		out = "<NewExternalIPAddress>" + r.outside.String() + "</NewExternalIPAddress>"
	case "AddPortMapping":
		external := port("NewExternalPort")
		switch {
		case args["NewProtocol"] != "UDP" || args["NewInternalClient"] != "127.0.0.1" || args["NewEnabled"] != "1":
			fault = 402
		case r.taken[external]:
			fault = 718
		case r.permanent && args["NewLeaseDuration"] != "0":
			fault = 725
		default:
			r.mapped[port("NewInternalPort")] = external
		}
	case "DeletePortMapping":
		for internal, external := range r.mapped {
			if external == port("NewExternalPort") {
				delete(r.mapped, internal)
			}
		}
	default:
		fault = 401
	}
	if fault != 0 {
		w.WriteHeader(http.StatusInternalServerError)
		out = fmt.Sprintf("<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>%d</errorCode></UPnPError></detail></s:Fault>", fault)
	} else {
		out = fmt.Sprintf("<u:%sResponse xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\">%s</u:%sResponse>", action, out, action)
	}
	fmt.Fprintf(w, `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>%s</s:Body></s:Envelope>`, out)
}

// table is what is mapped now.
func (r *router) table() map[uint16]uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[uint16]uint16{}
	for k, v := range r.mapped {
		out[k] = v
	}
	return out
}

func (r *router) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}
