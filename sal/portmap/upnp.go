package portmap

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/dcps/internetgateway2"
)

const (
	// maxDescription bounds what is read of a router over one connection: a
	// description of a device has some 10 KB.
	maxDescription = 256 << 10
	// maxFound bounds the answers to a search that are looked at.
	maxFound = 16
	// searchTime is how long answers to a search are gathered.
	searchTime = time.Second
	ssdpPort   = 1900
)

// errNoUPnP is returned when the gateway answers no search.
var errNoUPnP = errors.New("portmap: no UPnP router")

// wanConnection is what a router's services of three kinds have in common.
type wanConnection interface {
	AddPortMappingCtx(ctx context.Context, remoteHost string, externalPort uint16, protocol string, internalPort uint16, internalClient string, enabled bool, description string, lease uint32) error
	DeletePortMappingCtx(ctx context.Context, remoteHost string, externalPort uint16, protocol string) error
	GetExternalIPAddressCtx(ctx context.Context) (string, error)
}

// upnp speaks UPnP with one gateway.
type upnp struct {
	local netip.Addr
	wan   wanConnection
}

// findUPnP looks for the gateway's service.
func findUPnP(ctx context.Context, gateway, local netip.Addr) (*upnp, error) {
	client := gatewayClient(gateway)
	defer client.CloseIdleConnections()
	locations, err := search(ctx, gateway, local)
	if err != nil {
		return nil, err
	}
	errs := []error{errNoUPnP}
	for _, at := range locations {
		root, err := describe(ctx, client, at)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if wan := connectionOf(root, at, client); wan != nil {
			return &upnp{local: local, wan: wan}, nil
		}
	}
	return nil, errors.Join(errs...)
}

func (u *upnp) name() string { return "upnp" }

// add implements protocol.
func (u *upnp) add(ctx context.Context, internal, external uint16, life time.Duration) (netip.AddrPort, time.Duration, error) {
	text, err := u.wan.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("portmap: upnp: %w", err)
	}
	address, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil {
		return netip.AddrPort{}, 0, errMalformed
	}
	lease := life
	err = u.wan.AddPortMappingCtx(ctx, "", external, "UDP", internal, u.local.String(), true, "scn", uint32(lease/time.Second))
	if err != nil {
		// Many routers know no leases (error 725); ours is taken back when we end.
		err = u.wan.AddPortMappingCtx(ctx, "", external, "UDP", internal, u.local.String(), true, "scn", 0)
	}
	if err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("portmap: upnp: %w", err)
	}
	return netip.AddrPortFrom(address.Unmap(), external), lease, nil
}

// remove implements protocol.
func (u *upnp) remove(ctx context.Context, _, external uint16) error {
	return u.wan.DeletePortMappingCtx(ctx, "", external, "UDP")
}

// search asks for a router (SSDP), the gateway alone and all on the link, and
// returns where the gateway says its description is.
func search(ctx context.Context, gateway, local netip.Addr) ([]*url.URL, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for _, to := range []netip.Addr{gateway, netip.AddrFrom4([4]byte{239, 255, 255, 250})} {
		text := "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n" +
			"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
		_, _ = conn.WriteToUDPAddrPort([]byte(text), netip.AddrPortFrom(to, ssdpPort)) // one of them may do
	}
	_ = conn.SetReadDeadline(time.Now().Add(searchTime))
	var out []*url.URL
	var buffer [2048]byte
	for looked := 0; looked < maxFound; {
		n, from, err := conn.ReadFromUDPAddrPort(buffer[:])
		if err != nil {
			break
		}
		if from.Addr().Unmap() != gateway {
			continue
		}
		looked++
		if at, ok := parseSearchAnswer(buffer[:n], gateway); ok && (len(out) == 0 || out[0].String() != at.String()) {
			out = append(out, at)
			_ = conn.SetReadDeadline(time.Now().Add(searchTime / 10)) // what else there is comes soon
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return out, nil
}

// parseSearchAnswer returns where a search's answer says the description is, if
// that is at the gateway.
func parseSearchAnswer(b []byte, gateway netip.Addr) (*url.URL, bool) {
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return nil, false
	}
	_ = answer.Body.Close()
	at, err := url.Parse(answer.Header.Get("Location"))
	if err != nil || answer.StatusCode != http.StatusOK || at.Scheme != "http" {
		return nil, false
	}
	host, err := netip.ParseAddr(at.Hostname())
	return at, err == nil && host == gateway
}

// describe fetches a description.
func describe(ctx context.Context, client *http.Client, at *url.URL) (*goupnp.RootDevice, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("portmap: %s: %s", at, answer.Status)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxDescription))
	if err != nil {
		return nil, err
	}
	return parseDescription(body, at)
}

// parseDescription reads a description.
func parseDescription(body []byte, at *url.URL) (*goupnp.RootDevice, error) {
	root := new(goupnp.RootDevice)
	decoder := xml.NewDecoder(bytes.NewReader(body))
	decoder.DefaultSpace = goupnp.DeviceXMLNamespace
	if err := decoder.Decode(root); err != nil {
		return nil, fmt.Errorf("portmap: description: %w", err)
	}
	base := at
	if root.URLBaseStr != "" {
		var err error
		if base, err = url.Parse(root.URLBaseStr); err != nil {
			return nil, fmt.Errorf("portmap: description: %w", err)
		}
	}
	root.SetURLBase(base)
	return root, nil
}

// connectionOf returns the service of a device that maps ports, nil without one.
func connectionOf(root *goupnp.RootDevice, at *url.URL, client *http.Client) wanConnection {
	if c, err := internetgateway2.NewWANIPConnection2ClientsFromRootDevice(root, at); err == nil && len(c) > 0 {
		c[0].SOAPClient.HTTPClient = *client
		return c[0]
	}
	if c, err := internetgateway2.NewWANIPConnection1ClientsFromRootDevice(root, at); err == nil && len(c) > 0 {
		c[0].SOAPClient.HTTPClient = *client
		return c[0]
	}
	if c, err := internetgateway2.NewWANPPPConnection1ClientsFromRootDevice(root, at); err == nil && len(c) > 0 {
		c[0].SOAPClient.HTTPClient = *client
		return c[0]
	}
	return nil
}

// gatewayClient speaks HTTP with the gateway and nobody else, whatever a description
// or a redirection says.
func gatewayClient(gateway netip.Addr) *http.Client {
	return &http.Client{
		Timeout:       3 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				to, err := netip.ParseAddrPort(address)
				if err != nil || to.Addr().Unmap() != gateway {
					return nil, fmt.Errorf("portmap: %s is not the gateway", address)
				}
				c, err := new(net.Dialer).DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &bounded{Conn: c, left: maxDescription}, nil
			},
		},
	}
}

// bounded is a connection of which so many bytes are read.
type bounded struct {
	net.Conn
	left int
}

// Read implements net.Conn.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errMalformed
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
