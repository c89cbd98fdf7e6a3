package cashier

import (
	"encoding/binary"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// rowName says what a row of the state is about, for people.
func rowName(key []byte) string {
	if len(key) == 0 {
		return "an empty key"
	}
	kind, rest := key[0], key[1:]
	account := func() string {
		if len(rest) < identity.Size {
			return fmt.Sprintf("%x", rest)
		}
		return identity.AccountID(rest[:identity.Size]).String()
	}
	switch {
	case kind == 'a':
		return "account " + account()
	case kind == 'b':
		return "money of account " + account()
	case kind == 'n':
		return fmt.Sprintf("name %q", rest)
	case kind == 'o' && len(rest) >= identity.Size:
		return fmt.Sprintf("name %q of account %s", rest[identity.Size:], account())
	case kind == 'i':
		return fmt.Sprintf("place of transaction %x", rest)
	case kind == transferRef && len(key) == referenceSize-1:
		return fmt.Sprintf("transfer %s of account %s", voucher.TransferID(rest[identity.Size:]), account())
	case kind == holdRef && len(key) == referenceSize:
		return fmt.Sprintf("reserved amount %d of transfer %s of account %s",
			rest[len(rest)-1], voucher.TransferID(rest[identity.Size:len(rest)-1]), account())
	case string(key) == string(marketKey):
		return "totals of channels"
	case kind == channelRef && len(rest) == identity.Size:
		return fmt.Sprintf("channel %x", rest)
	case kind == channelRef && len(rest) == 2*identity.Size:
		return fmt.Sprintf("channel %x of account %s", rest[identity.Size:], account())
	case kind == askRef && len(key) == referenceSize-1:
		return fmt.Sprintf("ask for service %s on node %x…", identity.ServiceID(rest[:identity.Size]), rest[identity.Size:])
	case kind == vestingRef && len(key) == referenceSize-1:
		return fmt.Sprintf("what account %s gets at %d", account(), binary.BigEndian.Uint64(rest[identity.Size+8:]))
	case kind == commitRef && len(key) == referenceSize-1:
		return "commit of account " + account()
	case kind == leaseRef && len(key) == referenceSize-1:
		return fmt.Sprintf("lease of the name with hash %x", rest[:identity.Size])
	case kind == stakeRef && len(key) == referenceSize-1:
		return fmt.Sprintf("unbonding amount %s of account %s", voucher.TransferID(rest[identity.Size:]), account())
	case kind == stakeRef && len(rest) == identity.Size:
		return "stake of account " + account()
	case kind == keysRef && len(key) == referenceSize-1:
		return "recovery of account " + account()
	case kind == keysRef && len(rest) == identity.Size:
		return "keys of account " + account()
	case kind == bindingPrefix && len(rest) == 2*identity.Size:
		return fmt.Sprintf("binding of node %s and service %s", identity.NodeID(rest[:identity.Size]), identity.ServiceID(rest[identity.Size:]))
	case kind == listingPrefix && len(rest) == 2*identity.Size:
		return fmt.Sprintf("standing of service %s on node %s", identity.ServiceID(rest[:identity.Size]), identity.NodeID(rest[identity.Size:]))
	case string(key) == string(inspectionKey):
		return "inspection as a whole"
	case kind == inspectionPrefix && len(rest) == 8:
		return fmt.Sprintf("epoch %d of inspection", binary.BigEndian.Uint64(rest))
	case kind == inspectionPrefix && len(rest) == 1+identity.Size:
		return fmt.Sprintf("canary %x", rest[1:])
	case (kind == inspectorPrefix || kind == rosterPrefix) && len(rest) == 1+4:
		return fmt.Sprintf("who is number %d of inspectors or providers", binary.BigEndian.Uint32(rest[1:]))
	case kind == inspectorPrefix && len(rest) == 1+identity.Size:
		return "inspector " + identity.AccountID(rest[1:]).String()
	case kind == reportPrefix && len(rest) == 1+8+identity.Size:
		return fmt.Sprintf("commit of inspector %s on epoch %d", identity.AccountID(rest[9:]), binary.BigEndian.Uint64(rest[1:]))
	case kind == reportPrefix && len(rest) == 1+8+4:
		return fmt.Sprintf("report %d on epoch %d", binary.BigEndian.Uint32(rest[9:]), binary.BigEndian.Uint64(rest[1:]))
	case kind == reportPrefix && len(rest) > 1+2*identity.Size:
		return fmt.Sprintf("what operator %s saw of service %s on node %s", rest[1+2*identity.Size:],
			identity.ServiceID(rest[1:1+identity.Size]), identity.NodeID(rest[1+identity.Size:1+2*identity.Size]))
	case kind == rosterPrefix && len(rest) == 1+8+4:
		return fmt.Sprintf("roster of epoch %d", binary.BigEndian.Uint64(rest[1:]))
	case kind == rosterPrefix && len(rest) == 1+2*identity.Size:
		return fmt.Sprintf("what service %s earned on node %s", identity.ServiceID(rest[1:1+identity.Size]), identity.NodeID(rest[1+identity.Size:]))
	case string(key) == string(leaseStartKey):
		return "the start of leases"
	case string(key) == string(depositsKey):
		return "deposits of all commits"
	case string(key) == string(stakesKey):
		return "stakes of all accounts"
	case kind == 'd' && len(rest) == 8:
		return fmt.Sprintf("list of what falls due at %d", binary.BigEndian.Uint64(rest)<<dueShift)
	case string(key) == string(queueKey):
		return "what is left of the lists"
	case string(key) == string(totalsKey):
		return "totals"
	case string(key) == string(parametersKey):
		return "parameters"
	}
	return fmt.Sprintf("%q", key)
}
