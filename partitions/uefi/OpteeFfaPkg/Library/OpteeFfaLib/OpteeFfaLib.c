/** @file
  OP-TEE as a partition of an SPMC: sessions of its TAs for UEFI.

  A call is a message in shared memory; a direct request tells OP-TEE of it. OP-TEE comes back when it is done, when the
  normal world's interrupts want the core, or when it wants something of the normal world, and is resumed by another direct
  request. Buffers of the caller are copied: they may lie anywhere, and at run time have no physical address that is known.

  One call at a time, with interrupts on: OP-TEE leaves the core whenever one is pending, and would do so for ever.
**/

#include "OpteeFfa.h"

#include <IndustryStandard/ArmFfaSvc.h>

#include <Library/ArmFfaLib.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/OpteeFfaStatistics.h>
#include <Library/TimeBaseLib.h>
#include <Library/TimerLib.h>
#include <Library/UefiBootServicesTableLib.h>

/// How long a request is repeated while OP-TEE serves others, in seconds.
#define BUSY_LIMIT  10

/// The smallest version of FF-A whose descriptors are written here.
#define FFA_MINOR_NEEDED  2

STATIC UINT16     mSelf;
STATIC UINT16     mOptee;
STATIC BOOLEAN    mInitialised;
STATIC BOOLEAN    mInCall;
STATIC EFI_EVENT  mEvent;

/// What is counted; its addresses are filled in when it is asked for.
STATIC OPTEE_FFA_STATISTICS  mStatistics;

/**
  Whether BUSY_LIMIT is over.

  @param[in] Start  Performance counter when it began.
**/
STATIC
BOOLEAN
IsTooLate (
  IN UINT64  Start
  )
{
  return GetPerformanceCounter () - Start > MultU64x32 (GetPerformanceCounterProperties (NULL, NULL), BUSY_LIMIT);
}

EFI_STATUS
OpteeFfaRequest (
  IN OUT OPTEE_REGISTERS  *Message
  )
{
  FFA_REGISTERS  Next;
  FFA_REGISTERS  Registers;
  UINT64         Start;
  UINTN          Index;

  ZeroMem (&Next, sizeof (Next));
  Next.X[0] = ARM_FID_FFA_MSG_SEND_DIRECT_REQ_AARCH32;
  Next.X[1] = PACK_PARTITION_ID_INFO (mSelf, mOptee);
  for (Index = 0; Index < ARRAY_SIZE (Message->W); Index++) {
    Next.X[3 + Index] = Message->W[Index];
  }

  Start = GetPerformanceCounter ();
  while (TRUE) {
    CopyMem (&Registers, &Next, sizeof (Registers));
    FfaCall (&Registers);
    switch ((UINT32)Registers.X[0]) {
      case ARM_FID_FFA_MSG_SEND_DIRECT_RESP_AARCH32:
        for (Index = 0; Index < ARRAY_SIZE (Message->W); Index++) {
          Message->W[Index] = (UINT32)Registers.X[3 + Index];
        }

        return EFI_SUCCESS;

      case ARM_FID_FFA_INTERRUPT:
        // The interrupt was taken on the way here. x1 says whom to go on with.
        mStatistics.Interruptions++;
        ZeroMem (&Next, sizeof (Next));
        Next.X[0] = ARM_FID_FFA_RUN;
        Next.X[1] = Registers.X[1];
        break;

      case ARM_FID_FFA_ERROR:
        if ((INT32)Registers.X[2] != ARM_FFA_RET_BUSY) {
          return ((INT32)Registers.X[2] == ARM_FFA_RET_ABORTED) ? EFI_ABORTED : EFI_DEVICE_ERROR;
        }

        if (IsTooLate (Start)) {
          return EFI_TIMEOUT;
        }

        break;

      default:
        return EFI_DEVICE_ERROR;
    }
  }
}

/**
  Gives OP-TEE a piece of the memory that was shared for such requests.

  @param[in, out] Param  What OP-TEE wants: size in B. Then the memory.

  @return Result for OP-TEE.
**/
STATIC
UINT32
AllocateForOptee (
  IN OUT OPTEE_MESSAGE_PARAM  *Param
  )
{
  OPTEE_SHARED_MEMORY  *Memory;

  for (Memory = mOpteeMemory + OPTEE_RPC_MEMORY; Memory < mOpteeMemory + OPTEE_MEMORY_COUNT; Memory++) {
    if (!Memory->Used && (Param->Union.Value.B <= EFI_PAGES_TO_SIZE (Memory->Pages))) {
      Memory->Used                              = TRUE;
      Param->Attribute                          = OPTEE_ATTRIBUTE_FFA_OUTPUT;
      Param->Union.Memory.BufferAddress         = 0;
      Param->Union.Memory.Size                  = Param->Union.Value.B;
      Param->Union.Memory.SharedMemoryReference = Memory->Handle;
      return OPTEE_SUCCESS;
    }
  }

  return TEE_ERROR_OUT_OF_MEMORY;
}

/**
  Takes back what AllocateForOptee gave.

  @param[in] Handle  Its handle.

  @return Result for OP-TEE.
**/
STATIC
UINT32
FreeForOptee (
  IN UINT64  Handle
  )
{
  OPTEE_SHARED_MEMORY  *Memory;

  for (Memory = mOpteeMemory + OPTEE_RPC_MEMORY; Memory < mOpteeMemory + OPTEE_MEMORY_COUNT; Memory++) {
    if (Memory->Used && (Memory->Handle == Handle)) {
      Memory->Used = FALSE;
      return OPTEE_SUCCESS;
    }
  }

  return TEE_ERROR_BAD_PARAMETERS;
}

/**
  Tells OP-TEE the time, in seconds and nanoseconds since 1970.

  @param[out] Param  Gets the time.

  @return Result for OP-TEE.
**/
STATIC
UINT32
TellTime (
  OUT OPTEE_MESSAGE_PARAM  *Param
  )
{
  EFI_TIME  Time;

  if (EFI_ERROR (OpteeFfaGetTime (&Time))) {
    return TEE_ERROR_NOT_SUPPORTED;
  }

  Param->Union.Value.A = EfiTimeToEpoch (&Time);
  Param->Union.Value.B = Time.Nanosecond;
  return OPTEE_SUCCESS;
}

/**
  Answers a request of OP-TEE's to the normal world. Firmware has no TAs, no files and no sockets.

  @param[in, out] Rpc  The request; gets the result.
**/
STATIC
VOID
AnswerRpc (
  IN OUT OPTEE_MESSAGE_ARG  *Rpc
  )
{
  OPTEE_MESSAGE_PARAM  *Param;

  //
  // All that is served has one parameter. OP-TEE is trusted to say which one; this keeps what it says to one place.
  //
  Param = Rpc->Params;
  switch (Rpc->Command) {
    case OPTEE_RPC_LOAD_TA:
      Rpc->Return = TEE_ERROR_ITEM_NOT_FOUND;
      break;

    case OPTEE_RPC_FS:
      // OP-TEE looks for TAs in secure storage, too, and takes this for an answer.
      Rpc->Return = TEE_ERROR_STORAGE_NOT_AVAILABLE;
      break;

    case OPTEE_RPC_GET_TIME:
      Rpc->Return = TellTime (Param);
      break;

    case OPTEE_RPC_NOTIFICATION:
      //
      // Waiting is for a lock in OP-TEE that another thread has. That thread's notification goes elsewhere: OP-TEE looks at
      // the lock whenever the wait ends, so a short wait will do. Whom to wake may be a thread of the operating system's, which
      // is out of reach: it looks again by itself if OP-TEE has limited its sleep (partitions/optee).
      //
      if (Param->Union.Value.A == OPTEE_RPC_NOTIFICATION_WAIT) {
        mStatistics.Waits++;
        MicroSecondDelay (1000);
      } else {
        mStatistics.WakeUps++;
      }

      Rpc->Return = OPTEE_SUCCESS;
      break;

    case OPTEE_RPC_SUSPEND:
      MicroSecondDelay ((UINTN)Param->Union.Value.A * 1000);
      Rpc->Return = OPTEE_SUCCESS;
      break;

    case OPTEE_RPC_SHM_ALLOC:
      Rpc->Return = AllocateForOptee (Param);
      break;

    case OPTEE_RPC_SHM_FREE:
      Rpc->Return = FreeForOptee (Param->Union.Value.B);
      break;

    default:
      Rpc->Return = TEE_ERROR_NOT_SUPPORTED;
      break;
  }
}

/**
  Has OP-TEE process the message at the start of shared memory.

  @param[in] Message  That message.

  @return As OpteeFfaRequest; EFI_DEVICE_ERROR also when OP-TEE does not take the message.
**/
STATIC
EFI_STATUS
Call (
  IN OPTEE_MESSAGE_ARG  *Message
  )
{
  EFI_STATUS         Status;
  OPTEE_REGISTERS    First;
  OPTEE_REGISTERS    Registers;
  OPTEE_MESSAGE_ARG  *Rpc;
  UINT64             Start;
  UINT32             Resume;

  ZeroMem (&First, sizeof (First));
  First.W[0] = OPTEE_FFA_YIELDING_CALL_WITH_ARG;
  First.W[1] = (UINT32)mOpteeMemory[OPTEE_CALL_MEMORY].Handle;
  First.W[2] = (UINT32)RShiftU64 (mOpteeMemory[OPTEE_CALL_MEMORY].Handle, 32);

  // OP-TEE's own requests come after the message, by the number of parameters that it starts with.
  Rpc   = (OPTEE_MESSAGE_ARG *)((UINT8 *)Message + OPTEE_MESSAGE_SIZE (Message->NumParams));
  Start = GetPerformanceCounter ();
  do {
    CopyMem (&Registers, &First, sizeof (Registers));
    Status = OpteeFfaRequest (&Registers);
    // All of OP-TEE's threads are in use: nothing of the message was read.
  } while (!EFI_ERROR (Status) && (Registers.W[0] == TEE_ERROR_BUSY) && !IsTooLate (Start));

  while (!EFI_ERROR (Status)) {
    if (Registers.W[0] != OPTEE_SUCCESS) {
      return (Registers.W[0] == TEE_ERROR_BUSY) ? EFI_TIMEOUT : EFI_DEVICE_ERROR;
    }

    if (Registers.W[1] == OPTEE_FFA_RETURN_DONE) {
      mStatistics.Calls++;
      return EFI_SUCCESS;
    }

    if (Registers.W[1] == OPTEE_FFA_RETURN_RPC) {
      AnswerRpc (Rpc);
    } else {
      mStatistics.Interruptions++;
    }

    Resume = Registers.W[4];
    ZeroMem (&Registers, sizeof (Registers));
    Registers.W[0] = OPTEE_FFA_YIELDING_CALL_RESUME;
    Registers.W[4] = Resume;
    Status         = OpteeFfaRequest (&Registers);
  }

  return Status;
}

/**
  Starts a message.

  @param[out] Message  Where to write it.

  @retval EFI_SUCCESS      It is empty.
  @retval EFI_NOT_STARTED  OpteeInit was not successful.
  @retval EFI_NOT_READY    Another call is going on, or interrupts are off.
**/
STATIC
EFI_STATUS
BeginCall (
  OUT OPTEE_MESSAGE_ARG  **Message
  )
{
  if (!mInitialised) {
    return EFI_NOT_STARTED;
  }

  if (mInCall || !GetInterruptState ()) {
    return EFI_NOT_READY;
  }

  mInCall  = TRUE;
  *Message = (OPTEE_MESSAGE_ARG *)mOpteeMemory[OPTEE_CALL_MEMORY].Address;
  ZeroMem (*Message, EFI_PAGE_SIZE);
  return EFI_SUCCESS;
}

/**
  Copies the caller's parameters to shared memory.

  @param[out] To    The message's.
  @param[in]  From  The caller's.

  @retval EFI_SUCCESS            Done.
  @retval EFI_OUT_OF_RESOURCES   The buffers are larger than shared memory.
  @retval EFI_INVALID_PARAMETER  A parameter is of no known kind, or a buffer is at no address.
**/
STATIC
EFI_STATUS
PutParameters (
  OUT OPTEE_MESSAGE_PARAM        *To,
  IN  CONST OPTEE_MESSAGE_PARAM  *From
  )
{
  UINTN   Index;
  UINT64  Offset;
  UINT64  Size;

  Offset = EFI_PAGE_SIZE;
  for (Index = 0; Index < OPTEE_MAX_CALL_PARAMS; Index++, From++, To++) {
    To->Attribute = From->Attribute;
    switch (From->Attribute) {
      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_NONE:
        break;

      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_VALUE_INPUT:
      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_VALUE_OUTPUT:
      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_VALUE_INOUT:
        CopyMem (&To->Union.Value, &From->Union.Value, sizeof (To->Union.Value));
        break;

      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_INPUT:
      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_OUTPUT:
      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_INOUT:
        Size = From->Union.Memory.Size;
        if ((From->Union.Memory.BufferAddress == 0) && (Size != 0)) {
          return EFI_INVALID_PARAMETER;
        }

        if (Size > EFI_PAGES_TO_SIZE (OPTEE_CALL_PAGES) - Offset) {
          return EFI_OUT_OF_RESOURCES;
        }

        To->Attribute                          = From->Attribute - OPTEE_ATTRIBUTE_FFA_MEMORY;
        To->Union.Memory.Size                  = Size;
        To->Union.Memory.SharedMemoryReference = OPTEE_FFA_NO_MEMORY;
        if (Size != 0) {
          To->Union.Memory.BufferAddress         = Offset;
          To->Union.Memory.SharedMemoryReference = mOpteeMemory[OPTEE_CALL_MEMORY].Handle;
          CopyMem (
            mOpteeMemory[OPTEE_CALL_MEMORY].Address + Offset,
            (VOID *)(UINTN)From->Union.Memory.BufferAddress,
            (UINTN)Size
            );
          Offset += ALIGN_VALUE (Size, sizeof (UINT64));
        }

        break;

      default:
        return EFI_INVALID_PARAMETER;
    }
  }

  return EFI_SUCCESS;
}

/**
  Copies results to the caller. A TA that wants a larger buffer says so by a size that is larger.

  @param[in, out] To    The caller's parameters, which say where its buffers are.
  @param[in]      From  The message's.
**/
STATIC
VOID
GetParameters (
  IN OUT OPTEE_MESSAGE_PARAM        *To,
  IN     CONST OPTEE_MESSAGE_PARAM  *From
  )
{
  UINTN   Index;
  UINT64  Offset;
  UINT64  Room;

  Offset = EFI_PAGE_SIZE;
  for (Index = 0; Index < OPTEE_MAX_CALL_PARAMS; Index++, From++, To++) {
    switch (To->Attribute) {
      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_VALUE_OUTPUT:
      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_VALUE_INOUT:
        CopyMem (&To->Union.Value, &From->Union.Value, sizeof (To->Union.Value));
        break;

      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_INPUT:
        Offset += ALIGN_VALUE (To->Union.Memory.Size, sizeof (UINT64));
        break;

      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_OUTPUT:
      case OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_INOUT:
        Room                  = To->Union.Memory.Size;
        To->Union.Memory.Size = From->Union.Memory.Size;
        if (To->Union.Memory.Size <= Room) {
          CopyMem (
            (VOID *)(UINTN)To->Union.Memory.BufferAddress,
            mOpteeMemory[OPTEE_CALL_MEMORY].Address + Offset,
            (UINTN)To->Union.Memory.Size
            );
        }

        Offset += ALIGN_VALUE (Room, sizeof (UINT64));
        break;
    }
  }
}

/**
  Calls OP-TEE, and makes a call that it did not get to the end of a failed one.

  @param[in, out] Message       The message.
  @param[out]     Return        Its result.
  @param[out]     ReturnOrigin  Where that comes from.

  @return As Call.
**/
STATIC
EFI_STATUS
EndCall (
  IN OUT OPTEE_MESSAGE_ARG  *Message,
  OUT    UINT32             *Return,
  OUT    UINT32             *ReturnOrigin
  )
{
  EFI_STATUS  Status;

  Status        = Call (Message);
  *Return       = EFI_ERROR (Status) ? OPTEE_ERROR_COMMUNICATION : Message->Return;
  *ReturnOrigin = EFI_ERROR (Status) ? OPTEE_ORIGIN_COMMUNICATION : Message->ReturnOrigin;
  mInCall       = FALSE;
  return Status;
}

/**
  Looks for OP-TEE's partition. Where there are several, the first one is taken.

  @retval EFI_SUCCESS               mSelf and mOptee are known.
  @retval EFI_UNSUPPORTED           There is no FF-A.
  @retval EFI_NOT_FOUND             No partition is OP-TEE.
  @retval EFI_INCOMPATIBLE_VERSION  FF-A or OP-TEE is of another version.
  @return Otherwise why the SPMC or OP-TEE could not be asked.
**/
STATIC
EFI_STATUS
FindOptee (
  VOID
  )
{
  EFI_STATUS              Status;
  UINT16                  Major;
  UINT16                  Minor;
  VOID                    *Rx;
  UINT64                  RxSize;
  UINT32                  Count;
  UINT32                  Size;
  EFI_FFA_PART_INFO_DESC  *Partition;
  OPTEE_REGISTERS         Message;

  if (!IsFfaSupported ()) {
    return EFI_UNSUPPORTED;
  }

  Status = ArmFfaLibGetVersion (ARM_FFA_MAJOR_VERSION, ARM_FFA_MINOR_VERSION, &Major, &Minor);
  if (EFI_ERROR (Status) || (Major != ARM_FFA_MAJOR_VERSION) || (Minor < FFA_MINOR_NEEDED)) {
    return EFI_INCOMPATIBLE_VERSION;
  }

  Status = ArmFfaLibPartitionIdGet (&mSelf);
  if (!EFI_ERROR (Status)) {
    Status = ArmFfaLibGetRxTxBuffers (NULL, NULL, &Rx, &RxSize);
  }

  if (EFI_ERROR (Status)) {
    return Status;
  }

  Status = ArmFfaLibPartitionInfoGet (&gOpteeFfaServiceGuid, FFA_PART_INFO_FLAG_TYPE_DESC, &Count, &Size);
  if (EFI_ERROR (Status)) {
    return EFI_NOT_FOUND;
  }

  Partition = Rx;
  Status    = ((Count != 0) && (Partition->PartitionProps & FFA_PART_PROP_RECV_DIRECT_REQ)) ? EFI_SUCCESS : EFI_NOT_FOUND;
  mOptee    = Partition->PartitionId;
  ArmFfaLibRxRelease (mSelf);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  ZeroMem (&Message, sizeof (Message));
  Message.W[0] = OPTEE_FFA_GET_API_VERSION;
  Status       = OpteeFfaRequest (&Message);
  if (!EFI_ERROR (Status) && (Message.W[0] != OPTEE_FFA_VERSION_MAJOR)) {
    return EFI_INCOMPATIBLE_VERSION;
  }

  return Status;
}

/**
  Whether there is an OP-TEE that this library can talk to.
**/
BOOLEAN
EFIAPI
IsOpteePresent (
  VOID
  )
{
  return mInitialised || !EFI_ERROR (FindOptee ());
}

/**
  Takes memory back, and frees what came back.
**/
STATIC
VOID
Release (
  VOID
  )
{
  OPTEE_SHARED_MEMORY  *Memory;

  mInitialised = FALSE;
  if (mEvent != NULL) {
    gBS->CloseEvent (mEvent);
    mEvent = NULL;
  }

  OpteeFfaReclaimMemory ();
  for (Memory = mOpteeMemory; Memory < mOpteeMemory + OPTEE_MEMORY_COUNT; Memory++) {
    if ((Memory->Physical != 0) && !Memory->Shared) {
      gBS->FreePages (Memory->Physical, Memory->Pages);
      Memory->Physical = 0;
    }
  }
}

/**
  Finds OP-TEE and shares memory with it. Boot time only.

  @retval EFI_SUCCESS               Sessions can be opened.
  @retval EFI_UNSUPPORTED           There is no FF-A.
  @retval EFI_NOT_FOUND             No partition is OP-TEE.
  @retval EFI_INCOMPATIBLE_VERSION  FF-A or OP-TEE is of another version.
  @return Otherwise why memory could not be shared.
**/
EFI_STATUS
EFIAPI
OpteeInit (
  VOID
  )
{
  EFI_STATUS       Status;
  OPTEE_REGISTERS  Message;

  if (mInitialised) {
    return EFI_SUCCESS;
  }

  Status = FindOptee ();
  if (EFI_ERROR (Status)) {
    return Status;
  }

  //
  // OP-TEE writes its requests behind the message: their parameters must find room in the page.
  //
  ZeroMem (&Message, sizeof (Message));
  Message.W[0] = OPTEE_FFA_EXCHANGE_CAPABILITIES;
  Status       = OpteeFfaRequest (&Message);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  if ((Message.W[0] != OPTEE_SUCCESS) ||
      (OPTEE_MESSAGE_SIZE (OPTEE_MAX_CALL_PARAMS) + OPTEE_MESSAGE_SIZE ((UINT8)Message.W[1]) > EFI_PAGE_SIZE))
  {
    return EFI_INCOMPATIBLE_VERSION;
  }

  Status = OpteeFfaShareMemory (mSelf, mOptee);
  if (!EFI_ERROR (Status)) {
    Status = OpteeFfaRegisterEvent (&mEvent);
  }

  if (EFI_ERROR (Status)) {
    Release ();
    return Status;
  }

  mInitialised = TRUE;
  return EFI_SUCCESS;
}

/**
  Opens a session of a TA.

  @param[in, out] OpenSessionArg  The TA; gets session and result.

  @retval EFI_SUCCESS      Return says whether it was opened.
  @retval EFI_NOT_STARTED  OpteeInit was not successful.
  @retval EFI_NOT_READY    Another call is going on, or interrupts are off.
  @return Otherwise why OP-TEE was not reached.
**/
EFI_STATUS
EFIAPI
OpteeOpenSession (
  IN OUT OPTEE_OPEN_SESSION_ARG  *OpenSessionArg
  )
{
  EFI_STATUS         Status;
  OPTEE_MESSAGE_ARG  *Message;
  EFI_GUID           *Uuid;

  Status = BeginCall (&Message);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  //
  // Two parameters that are not the TA's: its UUID in the order in which it is written, and who asks (anybody: zero).
  //
  Message->Command             = OPTEE_COMMAND_OPEN_SESSION;
  Message->NumParams           = 2;
  Message->Params[0].Attribute = OPTEE_MESSAGE_ATTRIBUTE_TYPE_VALUE_INPUT | OPTEE_ATTRIBUTE_META;
  Message->Params[1].Attribute = OPTEE_MESSAGE_ATTRIBUTE_TYPE_VALUE_INPUT | OPTEE_ATTRIBUTE_META;
  Uuid                         = (EFI_GUID *)&Message->Params[0].Union.Value;
  CopyGuid (Uuid, &OpenSessionArg->Uuid);
  Uuid->Data1 = SwapBytes32 (Uuid->Data1);
  Uuid->Data2 = SwapBytes16 (Uuid->Data2);
  Uuid->Data3 = SwapBytes16 (Uuid->Data3);

  Status                  = EndCall (Message, &OpenSessionArg->Return, &OpenSessionArg->ReturnOrigin);
  OpenSessionArg->Session = Message->Session;
  return Status;
}

/**
  Closes a session.

  @param[in] Session  The session.

  @return As OpteeOpenSession.
**/
EFI_STATUS
EFIAPI
OpteeCloseSession (
  IN UINT32  Session
  )
{
  EFI_STATUS         Status;
  OPTEE_MESSAGE_ARG  *Message;
  UINT32             Return;
  UINT32             ReturnOrigin;

  Status = BeginCall (&Message);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Message->Command = OPTEE_COMMAND_CLOSE_SESSION;
  Message->Session = Session;
  return EndCall (Message, &Return, &ReturnOrigin);
}

/**
  Invokes a function of a TA.

  @param[in, out] InvokeFunctionArg  Session, function and parameters; gets results. A size of an output that is larger than
                                     its buffer is the size that the TA wants.

  @retval EFI_OUT_OF_RESOURCES   The buffers are together larger than 32 KiB.
  @retval EFI_INVALID_PARAMETER  A parameter is of no known kind, or a buffer is at no address.
  @return Otherwise as OpteeOpenSession.
**/
EFI_STATUS
EFIAPI
OpteeInvokeFunction (
  IN OUT OPTEE_INVOKE_FUNCTION_ARG  *InvokeFunctionArg
  )
{
  EFI_STATUS         Status;
  OPTEE_MESSAGE_ARG  *Message;

  Status = BeginCall (&Message);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Message->Command   = OPTEE_COMMAND_INVOKE_FUNCTION;
  Message->Function  = InvokeFunctionArg->Function;
  Message->Session   = InvokeFunctionArg->Session;
  Message->NumParams = OPTEE_MAX_CALL_PARAMS;
  Status             = PutParameters (Message->Params, InvokeFunctionArg->Params);
  if (EFI_ERROR (Status)) {
    mInCall = FALSE;
    return Status;
  }

  Status = EndCall (Message, &InvokeFunctionArg->Return, &InvokeFunctionArg->ReturnOrigin);
  if (!EFI_ERROR (Status)) {
    GetParameters (InvokeFunctionArg->Params, Message->Params);
  }

  return Status;
}

VOID
EFIAPI
OpteeFfaGetStatistics (
  OUT OPTEE_FFA_STATISTICS  *Statistics
  )
{
  CopyMem (Statistics, &mStatistics, sizeof (*Statistics));
  Statistics->Physical = mOpteeMemory[OPTEE_CALL_MEMORY].Physical;
  Statistics->Address  = (UINTN)mOpteeMemory[OPTEE_CALL_MEMORY].Address;
}

/**
  The module ends.

  @param[in] ImageHandle  Not used.
  @param[in] SystemTable  Not used.

  @retval EFI_SUCCESS  Always.
**/
EFI_STATUS
EFIAPI
OpteeFfaLibDestructor (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  Release ();
  return EFI_SUCCESS;
}
