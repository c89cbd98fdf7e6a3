package tun

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"scn.alt/scn/tun/address"
	"scn.alt/scn/tun/splice"
)

// Open checks the settings and the host, reads the virtual addresses, and creates the
// device. Nothing flows before Run. Close must be called.
func Open(cfg Config) (_ *Edge, err error) {
	if err := Check(cfg); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	e := &Edge{
		cfg:     cfg,
		log:     cfg.Logger.With("device", cfg.Name),
		buffers: splice.NewBuffers(cfg.Buffers),
		local:   &localAddresses{list: hostAddresses},
		tcp:     newTCPTable(cfg.MaxFlows, cfg.MaxHeld),
		udp:     newPacketTable(cfg.MaxPacketFlows),
		warm:    newWarmPorts(cfg.Warm),
		guests:  newGuestTable(cfg.MaxDeviceFlows, cfg.MaxDevicePacketFlows, cfg.MaxDevicePings),
		pings:   make(chan struct{}, cfg.MaxPings),
		ended:   make(chan struct{}),
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if e.pool, err = address.Open(address.Config{
		Network: cfg.Network, Prefix: cfg.Pool, File: cfg.State, Clock: cfg.Clock,
	}); err != nil {
		return nil, err
	}
	if e.dev, err = openDevice(cfg.Name, cfg.Queues, e.pool.Prefix4(), e.pool.Prefix6()); err != nil {
		return nil, err
	}
	if cfg.Guests != nil {
		if err := e.dev.forward(); err != nil {
			return nil, err
		}
	}
	if e.family4, err = e.openFamily(e.pool.Prefix4()); err != nil {
		return nil, err
	}
	if !e.dev.has6 {
		e.log.Warn("no IPv6 on this host, services get IPv4 addresses only")
	} else if e.family6, err = e.openFamily(e.pool.Prefix6()); err != nil {
		return nil, err
	}
	e.log.Info("device is up", "ipv4", e.pool.Prefix4().String(), "ipv6", e.pool.Prefix6().String())
	return e, nil
}

func (e *Edge) openFamily(prefix netip.Prefix) (*family, error) {
	l, err := e.dev.listen(e.ctx, address.Own(prefix, ownNumber))
	if err != nil {
		return nil, err
	}
	return newFamily(prefix, l), nil
}

// Close resets all flows, so that applications learn of it now, removes the device with
// its addresses and routes, and waits for every goroutine. It is idempotent.
func (e *Edge) Close() error {
	e.closing.Do(func() {
		e.cancel()
		if e.running.Swap(true) {
			<-e.ended // Run returns by itself
		}
		var errs []error
		for _, f := range []*family{e.family4, e.family6} {
			if f != nil {
				errs = append(errs, f.listener.Close())
			}
		}
		if e.dev != nil {
			errs = append(errs, e.dev.close())
		}
		if e.pool != nil {
			errs = append(errs, e.pool.Close())
		}
		if e.closed = errors.Join(errs...); e.closed != nil {
			e.closed = fmt.Errorf("tun: close %s: %w", e.cfg.Name, e.closed)
		}
	})
	return e.closed
}
